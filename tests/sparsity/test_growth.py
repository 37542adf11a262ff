"""SET and RigL against loops: what is dropped, what is grown, and that the count stands still."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.criteria import draw
from deeplight_jax.sparsity.growth import GRADIENT_GROWTH, RANDOM_GROWTH, grow_masks, swapped_share
from deeplight_jax.sparsity.schedule import one_shot
from deeplight_jax.sparsity.transform import Rule, project_onto_masks

SHAPES = {"w": (8, 6), "r": (7, 7), "t": (10, 3), "u": (9,)}
LABELS = {"w": "dnn", "r": "field", "t": "embedding", "u": "embedding"}
COMPONENTS = (
    Component("dnn", 0.8, "layer"),
    Component("field", 0.8, "symmetric"),
    Component("embedding", 0.6, "global"),
)


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {n: (scale * rng.normal(size=s)).astype(np.float32) for n, s in SHAPES.items()}


def masks_of(seed, kept):
    rng = np.random.default_rng(seed)
    masks = {n: rng.random(s) < kept for n, s in SHAPES.items()}
    masks["r"] |= masks["r"].T
    return masks


GROW = {
    signed: jax.jit(lambda m, s, g, rate, share, signed=signed: grow_masks(
        m, s, g, LABELS, COMPONENTS, dict.fromkeys(("dnn", "field", "embedding"), rate), share, signed=signed
    ))
    for signed in (False, True)
}  # fmt: skip


def oracle(kept, scores, growth, rate, share, signed):
    """Kept choices of one pool, by plain lists."""
    size = len(kept)
    keep = min(sum(kept), size - round(float(np.float32(rate) * np.float32(size))))
    grow = min(round(float(np.float32(share) * np.float32(keep))), size - keep)
    value = (lambda i: scores[i]) if signed else (lambda i: abs(scores[i]))
    ranked = sorted((i for i in range(size) if kept[i]), key=lambda i: (value(i), i))
    stay = set(ranked[len(ranked) - (keep - grow) :])
    candidates = sorted((i for i in range(size) if i not in stay), key=lambda i: (growth[i], i))
    return stay | set(candidates[len(candidates) - grow :])


@settings(max_examples=60)
@given(st.integers(0, 99), st.floats(0, 0.5, width=32), st.floats(0, 1), st.integers(0, 999), st.booleans())
def test_equals_dropping_and_growing_by_hand(percent, share, kept, seed, signed):
    masks, scores, growth = masks_of(seed, kept), tree(seed + 1), jax.tree.map(np.abs, tree(seed + 2))
    found = jax.tree.map(np.asarray, GROW[signed](masks, scores, growth, percent / 100, share))
    upper = np.triu_indices(7)
    symmetric = {"r": lambda x: (x + x.T if x.dtype != bool else x)[upper]}
    for names in (("w",), ("r",), ("t", "u")):
        flat = [
            np.concatenate([symmetric.get(n, np.ravel)(a[n]) for n in names]).tolist()
            for a in (masks, scores, growth)
        ]
        expected = oracle(*flat, percent / 100, share, signed)
        got = np.concatenate([symmetric.get(n, np.ravel)(found[n]) for n in names])
        assert set(np.flatnonzero(got)) == expected
    np.testing.assert_array_equal(found["r"], found["r"].T)


@given(st.floats(0.01, 0.9), st.integers(-5, 2000), st.integers(1, 1500))
def test_the_share_is_rigls_cosine(rate, k, steps):
    at = min(max(k, 0), steps)
    exact = rate / 2 * (1 + math.cos(math.pi * at / steps))
    assert float(swapped_share(rate, k, steps)) == pytest.approx(exact, abs=1e-6)


def train(growth, steps=60, **options):
    """SGD on pseudo-random gradients; yields step, params, masks, gradients."""
    rule = Rule(one_shot, growth=growth, seed=3)
    chain = optax.chain(
        optax.sgd(0.1),
        project_onto_masks(LABELS, COMPONENTS, warmup_steps=5, interval_steps=5, rule=rule, **options),
    )
    params = jax.tree.map(jnp.asarray, tree(0))
    state = chain.init(params)
    update = jax.jit(lambda g, s, p, step: chain.update(g, s, p, step=step, gradients=g))
    for step in range(1, steps + 1):
        gradients = tree(step)
        updates, state = update(gradients, state, params, jnp.int32(step))
        params = optax.apply_updates(params, updates)
        yield step, jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, state[-1].masks), gradients


@pytest.mark.parametrize("growth", [RANDOM_GROWTH, GRADIENT_GROWTH])
def test_the_count_stands_still_while_masks_move(growth):
    growth = growth._replace(rate=0.4, steps=40)
    before, moved = None, []
    for step, params, masks, gradients in train(growth):
        for name, keep in masks.items():
            assert not params[name][~keep].any()
        if step >= 10:
            assert masks["w"].sum() == 48 - round(0.8 * 48)
            assert masks["t"].sum() + masks["u"].sum() == 39 - round(0.6 * 39)
            assert masks["r"].sum() <= 49 - 2 * round(0.8 * 28) + 7
        if step % 5 == 0 and step > 10:
            grown = masks["w"] & ~before["w"]
            moved.append(int(grown.sum()))
            assert not params["w"][grown].any()  # from zero
            if growth.score is GRADIENT_GROWTH.score and grown.any():
                size = np.abs(gradients["w"])
                assert size[grown].min() >= size[~masks["w"] & ~before["w"]].max()
        before = masks
    share = [0.2 * (1 + math.cos(math.pi * min(k, 40) / 40)) for k in range(10, 60, 5)]
    for count, most in zip(moved, share, strict=True):
        assert count <= round(most * 10)  # a dropped weight may be grown again
    assert sum(moved[:4]) > 0
    assert not any(moved[-4:])


def test_random_growth_follows_the_seed_and_the_step():
    like = tree(0)
    first, again, later, other = (
        np.asarray(draw(*where, like)["w"]) for where in ((0, 5), (0, 5), (0, 6), (1, 5))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != later).mean() > 0.9
    assert (first != other).mean() > 0.9


def test_gradients_are_needed_and_n_of_m_refused():
    params = tree(0)
    for rule, needed in ((Rule(growth=GRADIENT_GROWTH), True), (Rule(growth=RANDOM_GROWTH), False)):
        transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0, rule=rule)
        state = transform.init(params)
        if needed:
            with pytest.raises(ValueError, match="needs gradients"):
                transform.update(params, state, params, step=1)
        else:
            transform.update(params, state, params, step=1)
    with pytest.raises(ConfigError, match="2:4 cannot be grown"):
        project_onto_masks(LABELS, [Component("dnn", 0.5, "2:4")], warmup_steps=0,
                           rule=Rule(growth=RANDOM_GROWTH))  # fmt: skip


def test_where_no_gradient_speaks_chance_decides_over_the_whole_table():
    labels, component = {"t": "embedding"}, Component("embedding", 0.5, "global")
    masks = {"t": np.arange(1000) % 2 == 0}
    silent = GRADIENT_GROWTH.score({"t": jnp.zeros(1000)}, jnp.uint32(0), jnp.int32(7))
    found = np.asarray(grow_masks(
        masks, {"t": jnp.ones(1000)}, silent, labels, [component], {"embedding": 0.5}, 0.3
    )["t"])  # fmt: skip
    grown = np.flatnonzero(found & ~masks["t"])
    assert found.sum() == 500
    assert grown.min() < 50
    assert grown.max() > 950
    for half in (grown < 500, grown >= 500):
        assert 40 < half.sum() < 110
