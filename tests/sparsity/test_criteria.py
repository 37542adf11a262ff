"""Random, movement and saliency against sums in float64; churn against counting by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeplight_jax.sparsity.churn import Churn, count_event, no_churn, read_churn
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.criteria import CRITERIA, Criterion
from deeplight_jax.sparsity.masks import select_masks
from deeplight_jax.sparsity.schedule import SCHEDULES, one_shot
from deeplight_jax.sparsity.transform import Rule, project_onto_masks

LABELS = {"w": "dnn", "t": "embedding", "b": ""}
COMPONENTS = (Component("dnn", 0.7, "layer"), Component("embedding", 0.5, "global"))
SIZES = {"w": 40, "t": 300, "b": 3}


def tree(seed):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SIZES.items()}


def run(rule, steps=40, targets=None, **options):
    """Yields step, params before, gradients, masks, state."""
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=4, interval_steps=4, damping_steps=0.2, rule=rule, **options
    )
    chain = optax.chain(optax.sgd(0.05), transform)
    params = tree(0)
    state = chain.init(params)
    update = jax.jit(lambda g, s, p, step: chain.update(g, s, p, step=step, gradients=g))
    for step in range(1, steps + 1):
        before, gradients = params, tree(step)
        updates, state = update(gradients, state, params, jnp.int32(step))
        params = optax.apply_updates(params, updates)
        yield step, before, gradients, {n: np.asarray(state[-1].masks[n]) for n in ("w", "t")}, state[-1]


def rate_at(k, target):
    return target * (1 - 0.99 ** (k / 0.2))


@pytest.mark.parametrize("name", ["movement", "saliency"])
def test_sums_of_weight_times_gradient(name):
    sums = {n: np.zeros(SIZES[n]) for n in ("w", "t")}
    for step, params, gradients, masks, _ in run(Rule(criterion=CRITERIA[name])):
        for n, total in sums.items():
            product = np.asarray(params[n], np.float64) * np.asarray(gradients[n], np.float64)
            total += -product if name == "movement" else np.abs(product)
        k = step - 4
        if k > 0 and k % 4 == 0:
            for n, target in (("w", 0.7), ("t", 0.5)):
                count = round(rate_at(k, target) * SIZES[n])
                pruned = np.zeros(SIZES[n], bool)
                pruned[np.argsort(sums[n], kind="stable")[:count]] = True
                np.testing.assert_array_equal(~masks[n], pruned)


@cache
def kept_by_magnitude(schedule):
    return [
        {n: keep.sum() for n, keep in masks.items()} for *_, masks, _ in run(Rule(SCHEDULES[schedule]), 16)
    ]


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("random", "damped"), ("movement", "polynomial"), ("saliency", "one_shot")],
)
def test_every_criterion_prunes_as_many_as_magnitude(name, schedule):
    found = run(Rule(SCHEDULES[schedule], CRITERIA[name]), 16)
    for (*_, masks, _), expected in zip(found, kept_by_magnitude(schedule), strict=True):
        assert {n: keep.sum() for n, keep in masks.items()} == expected
    assert expected["t"] < 300


def last(rule, steps=40, **options):
    *_, (*_, masks, _) = run(rule, steps, **options)
    return masks


def test_random_is_the_seeds_alone_and_uniform():
    rates, score = {"dnn": 0.7, "embedding": 0.5}, CRITERIA["random"].score
    draw = jax.jit(lambda seed: select_masks(score(tree(0), None, seed), LABELS, COMPONENTS, rates))
    masks = last(Rule(one_shot, CRITERIA["random"], seed=5), 8)
    for n in ("w", "t"):
        np.testing.assert_array_equal(masks[n], draw(jnp.uint32(5))[n])
    kept = np.mean([draw(jnp.uint32(s))["t"] for s in range(100)], axis=0)
    # each of 300 weights is kept with probability 1/2: 100 draws stray by 0.05 each
    assert abs(kept.mean() - 0.5) < 1e-6
    assert (np.abs(kept - 0.5) < 0.25).all()
    assert 0.03 < kept.std() < 0.07


def test_random_masks_of_a_growing_rate_are_nested():
    before = np.ones(300, bool)
    for *_, masks, _ in run(Rule(criterion=CRITERIA["random"])):
        assert not (masks["t"] & ~before).any()
        before = masks["t"]
    assert before.sum() == 300 - round(300 * rate_at(36, 0.5))


def test_a_criterion_of_ones_own():
    by_value = Criterion(lambda params, memory, seed: params, signed=True)
    *_, (_, params, gradients, masks, _) = run(Rule(one_shot, by_value), 8)
    after = np.asarray(params["w"]) - np.float32(0.05) * np.asarray(gradients["w"])
    assert after[~masks["w"]].max() <= after[masks["w"]].min()


def test_gradients_must_be_given():
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=0, rule=Rule(criterion=CRITERIA["movement"])
    )
    with pytest.raises(ValueError, match="needs gradients"):
        transform.update(tree(1), transform.init(tree(0)), tree(0), step=1)


@pytest.mark.parametrize("regrow", [True, False])
def test_churn_counts_what_moves(regrow):
    before = {n: np.ones(SIZES[n], bool) for n in ("w", "t")}
    pruned, regrown, events = {"dnn": 0, "embedding": 0}, {"dnn": 0, "embedding": 0}, 0
    for step, _, _, masks, state in run(Rule(), regrow=regrow):
        events += step > 4 and step % 4 == 0
        for code, n in (("dnn", "w"), ("embedding", "t")):
            pruned[code] += int((before[n] & ~masks[n]).sum())
            regrown[code] += int((masks[n] & ~before[n]).sum())
        before = masks
        counted, moves = read_churn(state.churn)
        assert counted == events
        assert {c: tuple(m) for c, m in moves.items()} == {c: (pruned[c], regrown[c]) for c in pruned}
    assert pruned["embedding"] >= round(300 * rate_at(36, 0.5))
    assert (regrown["embedding"] > 0) == regrow


def test_churn_passes_32_bits():
    rng = np.random.default_rng(0)
    a, b = ({"w": jnp.asarray(rng.random((700, 3)) < 0.5)} for _ in range(2))
    one = Component("dnn", 0.5)
    churn = no_churn([one])
    near = Churn({"dnn": jnp.asarray([2**32 - 100, 7], jnp.uint32)}, churn.regrown, churn.events)
    _, moves = read_churn(count_event(near, a, b, {"w": "dnn"}))
    gone, back = (int(x.sum()) for x in (np.asarray(a["w"] & ~b["w"]), np.asarray(b["w"] & ~a["w"])))
    assert gone > 300
    assert moves["dnn"] == (7 * 2**32 + 2**32 - 100 + gone, back)
