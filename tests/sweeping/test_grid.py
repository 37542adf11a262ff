"""Grids by property; sweep files; names of members, and which of them share a program or a warm-up."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.config import config_hash, default_config, flatten, override
from deeplight_jax.errors import ConfigError
from deeplight_jax.sweeping import Sweep, axis, codes, load_sweep, product, zipped
from deeplight_jax.sweeping.members import program_key, resolve
from deeplight_jax.sweeping.search import refine

KEYS = ("sparsity.dnn", "sparsity.field", "optim.l2", "seed")
AXES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(AXES)
def test_product_is_every_combination_once(sizes):
    grid = product(*(axis(key, [*range(n)]) for key, n in zip(KEYS, sizes, strict=False)))
    expected = [()]
    for n in sizes:
        expected = [(*before, i) for before in expected for i in range(n)]
    assert [tuple(point.values()) for point in grid] == expected


@given(st.integers(1, 5), st.integers(1, 5))
def test_zipped_goes_side_by_side(n, m):
    a, b = axis("sparsity.dnn", [*range(n)]), axis("seed", [*range(m)])
    if n == m:
        assert zipped(a, b) == [{"sparsity.dnn": i, "seed": i} for i in range(n)]
    else:
        with pytest.raises(ConfigError, match=f"grids of {n}, {m} points"):
            zipped(a, b)


def test_mistakes_in_a_grid_are_named():
    with pytest.raises(ConfigError, match=r"did you mean 'sparsity\.dnn'"):
        axis("sparsity.dmn", [0.9])
    with pytest.raises(ConfigError, match="axis seed: give a list"):
        axis("seed", [])
    with pytest.raises(ConfigError, match="product: seed is set by two grids"):
        product(axis("seed", [0]), axis("seed", [1]))
    bad = Sweep(default_config(), axis("sparsity.dnn", [0.5, 1.5]))
    with pytest.raises(ConfigError, match=r"sparsity.dnn=1.5: .*a rate in \[0, 1\)"):
        resolve(bad, Path("s"), "data")


def test_a_name_is_of_config_and_data():
    sweep = Sweep(default_config(), codes("D90", "D95", "D90"))
    members = resolve(sweep, Path("s"), "data")
    assert len(members) == 2  # the third point is the first one again
    assert [m.name for m in resolve(sweep, Path("elsewhere"), "data")] == [m.name for m in members]
    moved = sweep._replace(config=override(sweep.config, {"data.dir": "/elsewhere"}))
    assert [m.name for m in resolve(moved, Path("s"), "data")] == [m.name for m in members]
    assert not {m.name for m in resolve(sweep, Path("s"), "other")} & {m.name for m in members}
    hotter = sweep._replace(config=override(sweep.config, {"optim.learning_rate": 0.01}))
    assert not {m.name for m in resolve(hotter, Path("s"), "data")} & {m.name for m in members}


def test_traced_keys_share_a_program_a_warm_up_and_the_order_of_rows():
    traced = product(
        codes("", "D90-R50-F40"),
        axis("seed", [0, 3]),
        axis("optim.l2", [1e-7, 1e-6]),
        axis("sparsity.damping", [0.99, 0.9]),
    )
    members = resolve(Sweep(default_config(), traced), Path("s"), "data")
    assert len(members) == 16
    assert len({program_key(m.config) for m in members}) == 1
    assert {m.warmup for m in members} == {members[0].warmup}
    assert {m.config.data.shuffle_seed for m in members} == {0}
    warm = members[-1].warmup_config
    assert warm is not None
    assert (warm.seed, warm.optim.l2, warm.sparsity.dnn, warm.train.epochs) == (0, 3e-7, 0.0, 2)
    shapes = resolve(Sweep(default_config(), axis("model.embedding_dim", [4, 8])), Path("s"), "data")
    assert len({program_key(m.config) for m in shapes}) == len({m.warmup for m in shapes}) == 2


def test_without_whole_warm_up_epochs_each_has_its_own():
    config = override(default_config(), {"sparsity.warmup_epochs": 1.5})
    for sweep in (Sweep(config, codes("D90")), Sweep(default_config(), codes("D90"), share_warmup=False)):
        (member,) = resolve(sweep, Path("s"), "data")
        assert (member.warmup, member.warmup_config, member.config.train.init_from) == ("", None, "")


def test_old_hashes_stand():
    """Later keys at their defaults hash as configs did before there were any."""
    flat = {k: v for k, v in flatten(default_config()).items() if k != "data.shuffle_seed"}
    import hashlib
    import json

    later = (
        "train.on_nonfinite",
        "optim.embedding",
        "optim.embedding_learning_rate",
        "mesh.data",
        "mesh.table",
    )
    for key in ("data.dir", "data.verify", "train.keep", *later):
        del flat[key]
    assert (
        config_hash(default_config()) == hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()
    )


@pytest.mark.parametrize(
    ("file", "members", "programs"),
    [("table4", 19, 10), ("table5", 4, 1), ("figure4", 9, 1), ("figure5", 9, 1), ("figure6", 10, 1)],
)
@pytest.mark.parametrize("base", ["criteo_baselines", "avazu_baselines"])
def test_the_papers_sweeps(file, members, programs, base):
    found = resolve(load_sweep(f"sweeps/{file}.py:{base}"), Path("s"), "data")
    assert len(found) == members
    assert len({program_key(m.config) for m in found}) == programs
    assert found[0].config.model.embedding_dim == (20 if base.startswith("avazu") else 10)


def test_an_override_of_what_the_grid_sets_is_refused():
    assert load_sweep("sweeps/table5.py", ["train.epochs=3"]).config.train.epochs == 3
    with pytest.raises(ConfigError, match=r"sets sparsity\.dnn in its grid"):
        load_sweep("sweeps/table5.py", ["sparsity.dnn=0.5"])
    with pytest.raises(ConfigError, match="defines no get_sweep"):
        load_sweep("experiments/criteo_baselines.py")


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6, unique=True), st.data())
def test_refined_points_lie_between_a_centre_and_its_neighbours(values, data):
    values = [round(v, 3) for v in values]
    grid = product(axis("sparsity.dnn", sorted(set(values))), axis("model.name", ["fm", "deepfwfm"]))
    centre = data.draw(st.sampled_from(grid))
    tried = sorted({point["sparsity.dnn"] for point in grid})
    for point in refine([centre], grid):
        assert point not in grid
        assert point["model.name"] == centre["model.name"]
        low, high = sorted((point["sparsity.dnn"], centre["sparsity.dnn"]))
        assert not [v for v in tried if low < v < high]  # nothing tried lies in between


def test_refinement_by_hand():
    grid = product(axis("sparsity.dnn", [0.5, 0.9]), axis("optim.learning_rate", [1e-4, 1e-2]))
    assert refine([grid[0], grid[3]], grid) == [
        {"sparsity.dnn": 0.7, "optim.learning_rate": 1e-4},
        {"sparsity.dnn": 0.7, "optim.learning_rate": 1e-2},
        {"sparsity.dnn": 0.5, "optim.learning_rate": 1e-3},
        {"sparsity.dnn": 0.9, "optim.learning_rate": 1e-3},
    ]
    layers = axis("model.cross_layers", [2, 3])
    assert refine(layers, layers) == []  # there is nothing between two and three
