"""Permutation importance against a model whose fields' worth is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.importance import field_losses

SCHEMA = Schema((Field("x", "numeric", 1), Field("idle", "numeric", 1), Field("c", "categorical", 5)))


class Additive(nn.Module):
    """logit = 3 x + effect[c]; the second field does nothing."""

    @nn.compact
    def __call__(self, ids, values):
        effect = self.param("effect", nn.initializers.zeros, (5,))
        return 3 * values[:, 0] + effect[ids[:, 0]]


PARAMS = {"effect": jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])}


def world(rows=400):
    rng = np.random.default_rng(3)
    ids, values = (
        rng.integers(0, 5, (rows, 1)).astype(np.int32),
        rng.normal(size=(rows, 2)).astype(np.float32),
    )
    logit = 3 * values[:, 0] + np.asarray(PARAMS["effect"])[ids[:, 0]]
    return Split(ids, values, (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.uint8))


def area(split, values, ids):
    """ROC AUC pair by pair."""
    score = 3 * values[:, 0].astype(np.float64) + np.asarray(PARAMS["effect"], np.float64)[ids[:, 0]]
    clicks, rest = score[split.label == 1], score[split.label == 0]
    return np.mean([(c > rest).mean() + 0.5 * (c == rest).mean() for c in clicks])


def test_losses_are_the_oracles():
    split = world()
    seen = []
    found = field_losses(Additive(), PARAMS, SCHEMA, split, rows=10_000, shuffles=4, seed=7,
                         progress=lambda *told: seen.append(told))  # fmt: skip
    assert [f.field for f in found] == ["x", "idle", "c"]
    assert found[1] == ("idle", 0.0, 0.0)
    rng = np.random.default_rng([7, 1])  # the whole split is the sample, in its order
    orders = [rng.permutation(split.rows) for _ in range(4)]
    base = area(split, split.values, split.ids)
    for loss, parts in (
        (found[0], lambda o: (split.values[o], split.ids)),
        (found[2], lambda o: (split.values, split.ids[o])),
    ):
        losses = [base - area(split, *parts(order)) for order in orders]
        assert loss.loss == pytest.approx(np.mean(losses), abs=1e-4)
        assert loss.spread == pytest.approx(np.std(losses), abs=1e-4)
    assert found[0].loss > found[2].loss > 0.05
    assert [done for _, done, _ in seen] == [1, 2, 3]


def test_the_split_is_left_as_it_is_and_a_seed_repeats():
    split = world()
    before = [part.copy() for part in (split.ids, split.values, split.label)]
    first = field_losses(Additive(), PARAMS, SCHEMA, split, rows=100, shuffles=2)
    assert first == field_losses(Additive(), PARAMS, SCHEMA, split, rows=100, shuffles=2)
    assert first != field_losses(Additive(), PARAMS, SCHEMA, split, rows=100, shuffles=2, seed=1)
    for part, kept in zip((split.ids, split.values, split.label), before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_one_class_has_no_area():
    split = world()
    alone = Split(split.ids, split.values, np.zeros(split.rows, np.uint8))
    with pytest.raises(DataError, match="both classes"):
        field_losses(Additive(), PARAMS, SCHEMA, alone, rows=50)


def test_a_large_sample_is_scored_in_batches():
    sizes = []

    class Watched(Additive):
        @nn.compact
        def __call__(self, ids, values):
            sizes.append(len(ids))  # while it is traced
            return Additive.__call__(self, ids, values)

    field_losses(Watched(), PARAMS, SCHEMA, world(40_000), rows=40_000, shuffles=1)
    assert max(sizes) < 20_000
