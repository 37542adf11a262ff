"""The planted world: what it says of itself is so."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deeplight_jax.data import synthetic
from deeplight_jax.data.synthetic import World, prepare_synthetic, world_schema
from deeplight_jax.errors import DataError

WORLD = World(rows=20_000, largest=50, pairs=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_synthetic(tmp_path_factory.mktemp("world") / "data", WORLD)


def test_shape(data):
    assert {n: s.rows for n, s in data.splits.items()} == {"train": 16_000, "valid": 2_000, "test": 2_000}
    assert len(data.schema.numeric) == 13
    assert len(data.schema.categorical) == 26
    ids = np.asarray(data.split("train").ids)
    assert (ids.max(0) < [f.size for f in data.schema.categorical]).all()
    assert ids.min() == 0
    largest = np.bincount(ids[:, -1], minlength=50)
    assert largest[0] > 3 * largest[20] > 0  # zipf: a few categories carry most rows


def test_same_seed_same_bytes(data, tmp_path):
    assert prepare_synthetic(tmp_path / "again", WORLD).content_hash == data.content_hash
    other = World(rows=20_000, largest=50, pairs=5, seed=1)
    assert prepare_synthetic(tmp_path / "other", other).content_hash != data.content_hash


def test_best_metrics_are_those_of_the_true_probabilities(data):
    """Recomputes every true logit from the planted effects, row by row."""
    effects = synthetic._plant(WORLD, data.schema)
    split = data.split("test")
    logits = []
    for ids, values in zip(np.asarray(split.ids), np.asarray(split.values), strict=True):
        z = np.log(0.25 / 0.75) + sum(float(v) * effects.weights[f][0] for f, v in enumerate(values))
        z += sum(effects.weights[13 + c][i] for c, i in enumerate(ids))
        for i, j in effects.pairs:
            z += effects.latents[i][ids[i - 13]] @ effects.latents[j][ids[j - 13]]
        logits.append(z)
    p, y = 1 / (1 + np.exp(-np.asarray(logits))), np.asarray(split.label)
    best = data.manifest["synthetic"]["best"]["test"]
    assert best["roc_auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert best["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-6)
    assert abs(p.sum() / y.sum() - 1) < 0.1  # labels were drawn from these probabilities


def test_planted_pairs_are_named_pairs_of_the_schema(data):
    pairs = [tuple(p) for p in data.manifest["synthetic"]["pairs"]]
    assert len(set(pairs)) == 5
    assert set(pairs) <= set(data.schema.pairs)


@pytest.mark.parametrize("rows", [117, 118, 500, 20_000, 1_326_055])
def test_a_table_may_be_sized_exactly(rows):
    schema = world_schema(World(table_rows=rows))
    assert schema.num_rows == rows
    sizes = [f.size for f in schema.categorical]
    assert sizes == sorted(sizes)
    assert sizes[0] == 4
    near = [f.size for f in world_schema(World(largest=sizes[-1])).categorical]
    assert abs(sum(near) - sum(sizes)) <= 26 * 4  # still geometric


def test_a_table_too_small_for_its_fields_is_refused():
    with pytest.raises(DataError, match="117 rows or more"):
        world_schema(World(table_rows=116))


def test_a_split_of_one_class_has_no_roc_auc_and_is_refused(tmp_path):
    with pytest.raises(DataError, match="a split of 10 rows has clicks or non-clicks only"):
        prepare_synthetic(tmp_path / "data", World(rows=100, largest=50, seed=9))
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_row(tmp_path):
    told = []
    prepare_synthetic(tmp_path / "data", World(rows=90_000, largest=50), lambda *x: told.append(x))
    assert told == [("drawing rows", n, 90_000) for n in (65_536, 72_000, 81_000, 90_000)]
