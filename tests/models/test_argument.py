"""Config files' arguments, and the narrow nets of the paper's Table 4."""

from pathlib import Path

import pytest

from deeplight_jax.config import default_config, load_config, validate
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.evaluation.counting import multiply_adds
from deeplight_jax.layers.mlp import narrowed
from deeplight_jax.models import MODELS, abstract_params, build_model
from deeplight_jax.models.argument import apply_argument
from deeplight_jax.sweeping.paper import FIGURES, TABLES, table_entries

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCHEMA = Schema(tuple(Field(f"c{i}", "categorical", 3) for i in range(39)))
FILES = ["criteo_baselines.py", "avazu_baselines.py", "criteo_small.py", "criteo_criteria.py", "frappe.py"]


def applied(argument):
    config = default_config().copy_and_resolve_references()
    apply_argument(config, argument)
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


@pytest.mark.parametrize(
    ("name", "inputs"), [("deepfwfm", 390), ("nfm", 10), ("nfm,pairwise", 741), ("pnn", 1131)]
)
def test_a_narrow_net_is_as_large_as_a_pruned_one(name, inputs):
    """N-90 follows what the model's own net reads; one unit more or less would miss the size by more."""
    config = applied(f"{name},N-90")
    params, _ = abstract_params(build_model(config, SCHEMA), SCHEMA)
    kernels = [v["kernel"].shape for k, v in sorted(params["deep"].items()) if k.startswith("hidden")]
    assert kernels[0][0] == inputs
    wanted = (inputs * 400 + 2 * 400 * 400) / 10 + 4 * 400  # a tenth of the weights, all biases and outputs

    def miss(width):
        return abs(inputs * width + 2 * width * width + 4 * width - wanted)

    width = kernels[0][1]
    assert kernels == [(inputs, width), (width, width), (width, width)]
    assert miss(width) <= min(miss(width - 1), miss(width + 1))
    assert multiply_adds(config, SCHEMA)["deep"] < multiply_adds(applied(name), SCHEMA)["deep"] / 8


def test_only_a_net_can_be_narrow():
    with pytest.raises(ConfigError, match="model fm has no hidden layer"):
        build_model(applied("fm,N-90"), SCHEMA)


def test_parts_of_an_argument():
    config = applied("xdeepfm,D90-C50-F40")
    assert config.model.name == "xdeepfm"
    assert (config.sparsity.dnn, config.sparsity.cin, config.sparsity.embedding) == (0.9, 0.5, 0.4)
    other = applied("deepfwfm,D50-F40,movement,polynomial,rigl,rows,2:4").sparsity
    assert (other.criterion, other.schedule, other.growth) == ("movement", "polynomial", "gradient")
    assert (other.embedding_scope, other.dnn_scope) == ("rows", "2:4")
    assert applied("fm,E-40").model.embedding_dim == 6
    assert applied("fm,smoke").data.batch_size == 512
    assert applied("deepfwfm,paper").to_dict() == default_config().to_dict()
    released = applied("nfm,D90-F40,released")
    assert (released.model.nfm_pooling, released.model.dropout_steps) == ("pairwise", 100)
    assert released.sparsity.embedding == pytest.approx(0.444 * 0.9)
    assert applied("lr,F40,released").sparsity.embedding == 0.4  # no D to follow


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("xdepfm", r"did you mean 'xdeepfm'\?"),
        ("N-100", "below 100"),
        ("Q90", "not a letter"),
        ("?", "known: autoint"),
        ("deepfwfm,D90,R90", "more than one sparsity code: D90, R90"),
        ("fm,lr", "more than one model"),
        ("random,movement", "more than one criterion: random, movement"),
        ("movment", "did you mean 'movement'"),
        ("paper,smoke", "more than one recipe"),
        ("lr,E-40", "no embeddings to shorten"),
        ("pnn,pairwise", "pairwise is NFM's"),
    ],
)
def test_mistakes_are_named(argument, message):
    with pytest.raises(ConfigError, match=message):
        applied(argument)


@pytest.mark.parametrize("file", FILES)
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
        assert not any(e.published for e in table_entries("3", dataset, compare=False))


def test_unknown_tables_are_refused():
    with pytest.raises(ConfigError, match="no table 7 of criteo"):
        table_entries("7", "criteo")
