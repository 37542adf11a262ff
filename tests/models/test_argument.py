"""Config files' arguments, and the narrow nets of the paper's Table 4."""

from pathlib import Path

import pytest

from deeplight_jax.config import default_config, load_config, validate
from deeplight_jax.errors import ConfigError
from deeplight_jax.models import MODELS
from deeplight_jax.models.argument import apply_argument, narrowed
from deeplight_jax.sweeping.paper import FIGURES, TABLES, table_entries

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def applied(argument, num_fields=39):
    config = default_config().copy_and_resolve_references()
    apply_argument(config, argument, num_fields)
    validate(config)
    return config


@pytest.mark.parametrize(("percent", "width"), [(80, 98), (90, 57), (95, 32), (98, 16), (99, 9), (99.5, 6)])
def test_narrow_nets_are_the_authors(percent, width):
    """Widths of Avazu's 3 x 300 net (23 fields, k = 20) as the authors chose them, to one unit."""
    found = narrowed(23 * 20, (300, 300, 300), percent / 100)
    assert found == (found[0],) * 3
    assert abs(found[0] - width) <= 1


def test_narrow_nets_keep_their_proportions():
    assert narrowed(100, (40, 20), 0.0) == (40, 20)
    wide, narrow = narrowed(100, (40, 20), 0.6)
    assert wide == 2 * narrow
    assert narrowed(10, (4, 4), 0.999) == (1, 1)


def test_parts_of_an_argument():
    config = applied("xdeepfm,D90-C50-F40")
    assert config.model.name == "xdeepfm"
    assert (config.sparsity.dnn, config.sparsity.cin, config.sparsity.embedding) == (0.9, 0.5, 0.4)
    assert applied("fm,E-40").model.embedding_dim == 6
    assert applied("deepfwfm,N-90").model.hidden == narrowed(390, (400, 400, 400), 0.9)
    released = applied("nfm,D90-F40,released")
    assert (released.model.nfm_pooling, released.model.dropout_steps) == ("pairwise", 100)
    assert released.sparsity.embedding == pytest.approx(0.444 * 0.9)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("xdepfm", r"did you mean 'xdeepfm'\?"),
        ("N-100", "below 100"),
        ("Q90", "not a letter"),
        ("?", "models: lr"),
    ],
)
def test_mistakes_are_named(argument, message):
    with pytest.raises(ConfigError, match=message):
        applied(argument)


@pytest.mark.parametrize(
    "file", ["criteo_baselines.py", "avazu_baselines.py", "criteo_small.py", "frappe.py"]
)
def test_every_row_of_every_table_loads(file):
    dataset = "avazu" if file.startswith("avazu") else "criteo"
    for table in TABLES:
        entries = table_entries(table, dataset)
        assert len({e.argument for e in entries}) == len(entries)
        for entry in entries:
            config = load_config(f"{EXPERIMENTS / file}:{entry.argument}")
            assert config.model.name in MODELS


def test_published_figures_stand_in_some_table():
    for dataset, figures in FIGURES.items():
        shown = {e.argument for table in TABLES for e in table_entries(table, dataset) if e.published}
        assert shown == set(figures)


def test_unknown_tables_are_refused():
    with pytest.raises(ConfigError, match="no table 7 of criteo"):
        table_entries("7", "criteo")
