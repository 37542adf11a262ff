"""Algorithm 1 step by step against a loop in float64 NumPy, and its properties in a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.masks import apply_masks
from deeplight_jax.sparsity.transform import project_onto_masks

LABELS = {"w": "dnn", "b": ""}
COMPONENTS = (Component("dnn", 0.8, "layer"),)


def start():
    return {"w": jnp.asarray(np.random.default_rng(0).normal(size=40), jnp.float32), "b": jnp.ones(3)}


def run(transform, steps, params=None, learning_rate=0.1):
    """Steps of SGD on pseudo-random gradients; yields (step, params, masks)."""
    chain = optax.chain(optax.sgd(learning_rate), transform)
    params = params or start()
    state = chain.init(params)
    update = jax.jit(lambda g, s, p, step: chain.update(g, s, p, step=step))
    for step in range(1, steps + 1):
        updates, state = update(gradient(step), state, params, jnp.int32(step))
        params = optax.apply_updates(params, updates)
        yield step, params, state[-1].masks


def gradient(step):
    rng = np.random.default_rng(step)
    return {"w": jnp.asarray(rng.normal(size=40), jnp.float32), "b": jnp.ones(3)}


@pytest.mark.parametrize("regrow", [True, False])
@pytest.mark.parametrize("epoch_steps", [0, 7])
def test_equals_algorithm_1_in_a_loop(regrow, epoch_steps):
    warmup, interval, damping, u = 5, 4, 0.9, 3.0
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=warmup, interval_steps=interval, epoch_steps=epoch_steps,
        damping=damping, damping_steps=u, regrow=regrow,
    )  # fmt: skip
    w = np.asarray(start()["w"], np.float64)
    pruned = np.zeros(40, bool)
    for step, params, masks in run(transform, 30):
        w = w - 0.1 * np.asarray(gradient(step)["w"], np.float64)
        k = step - warmup
        if k > 0 and (k % interval == 0 or (epoch_steps and step % epoch_steps == 0)):
            if not regrow:
                w[pruned] = 0
            rate = 0.8 * (1 - damping ** (k / u))
            pruned = np.zeros(40, bool)
            pruned[np.argsort(np.abs(w), kind="stable")[: round(rate * 40)]] = True
            w[pruned] = 0
        elif not regrow:
            w[pruned] = 0
        np.testing.assert_allclose(params["w"], w, atol=1e-5)
        np.testing.assert_array_equal(~np.asarray(masks["w"]), pruned)
        assert ((np.asarray(params["w"]) == 0) == (w == 0)).all()
        np.testing.assert_allclose(params["b"], 1 - 0.1 * step, atol=1e-5)


def test_pruned_weights_grow_back_and_are_projected_out():
    transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0, interval_steps=10, damping_steps=1.0)
    states = {step: (p, m) for step, p, m in run(transform, 25)}
    at_event, between = states[20], states[25]
    assert (np.asarray(at_event[0]["w"]) == 0).sum() == (~np.asarray(at_event[1]["w"])).sum() > 0
    assert (np.asarray(between[0]["w"]) == 0).sum() == 0  # a dense model again, five steps later
    projected = apply_masks(*between)
    assert (np.asarray(projected["w"]) == 0).sum() == (~np.asarray(between[1]["w"])).sum()


def test_masks_without_regrowth_only_shrink():
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=2, interval_steps=3, damping_steps=5.0, regrow=False
    )
    before = np.ones(40, bool)
    for _, params, masks in run(transform, 40):
        keep = np.asarray(masks["w"])
        assert not (keep & ~before).any()
        assert (np.asarray(params["w"])[~keep] == 0).all()
        before = keep
    assert before.sum() < 40


@pytest.mark.parametrize("target", [0.0, 0.5, 0.9])
def test_given_masks_are_kept_to_without_regrowth_however_far_behind_the_schedule(target):
    given = np.arange(40) % 3 == 0  # two thirds pruned
    components = (Component("dnn", target),)
    transform = project_onto_masks(
        LABELS, components, warmup_steps=2, interval_steps=3, damping_steps=0.01, regrow=False
    )
    params = {**start(), "w": jnp.where(given, start()["w"], 0)}
    state = transform.init(params)
    state = state._replace(masks={**state.masks, "w": jnp.asarray(given)})
    for step in range(1, 31):
        updates, state = transform.update(gradient(step), state, params, step=step)
        params = optax.apply_updates(params, updates)
        assert not np.asarray(params["w"])[~given].any()
    keep = np.asarray(state.masks["w"])
    assert not (keep & ~given).any()
    assert keep.sum() == min(given.sum(), round((1 - target) * 40))


def test_a_new_target_does_not_recompile():
    transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0, interval_steps=1)
    params, state = start(), transform.init(start())
    update = jax.jit(lambda s, step: transform.update(gradient(1), s, params, step=step))
    for target in (0.1, 0.5, 0.9):
        state = state._replace(targets={"dnn": jnp.float32(target)})
        _, new = update(state, jnp.int32(100_000))
        assert int((~np.asarray(new.masks["w"])).sum()) == round(target * 40)
    assert update._cache_size() == 1


def test_an_unbatched_step_keeps_the_event_a_branch_under_vmap():
    transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0)
    many = jax.vmap(lambda s, p, step: transform.update(p, s, p, step=step), in_axes=(0, 0, None))
    params = jax.tree.map(lambda x: jnp.stack([x, x]), start())
    state = jax.vmap(transform.init)(params)
    jaxpr = jax.make_jaxpr(many)(state, params, jnp.int32(10)).jaxpr
    (event,) = [e for e in jaxpr.eqns if e.primitive.name == "while"]
    (condition,) = [v for v in event.invars if v.aval.dtype == bool and v.aval.shape in ((), (2,))]
    assert condition.aval.shape == ()
    updates, new = many(state, params, jnp.int32(10))
    single, one = transform.update(start(), transform.init(start()), start(), step=10)
    np.testing.assert_array_equal(updates["w"][1], single["w"])
    np.testing.assert_array_equal(new.masks["w"][0], one.masks["w"])


def test_nothing_to_prune_counts_events_without_a_branch():
    """At a branch a GPU would wait for the host, in every step of a dense run."""
    transform = project_onto_masks(LABELS, (), warmup_steps=2, interval_steps=3, epoch_steps=7)
    params, state = start(), transform.init(start())

    def update(s, step):
        return transform.update(gradient(1), s, params, step=step)

    jaxpr = jax.make_jaxpr(update)(state, jnp.int32(1)).jaxpr
    assert not {"while", "cond"} & {e.primitive.name for e in jaxpr.eqns}
    for step in range(1, 15):
        updates, state = update(state, jnp.int32(step))
        jax.tree.map(np.testing.assert_array_equal, updates, gradient(1))
    assert int(state.churn.events) == len({5, 8, 11, 14} | {7, 14})


@pytest.mark.parametrize("event", [False, True])
def test_the_hosts_word_on_an_event_stands_in_for_the_branch(event):
    transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0, interval_steps=10, damping_steps=1.0)
    params, state, step = start(), transform.init(start()), 10 if event else 9

    def update(s, step, **known):
        return transform.update(gradient(1), s, params, step=step, **known)

    expected, told = update(state, step), update(state, step, event=event)
    jax.tree.map(np.testing.assert_array_equal, expected, told)
    assert bool(np.asarray(told[1].masks["w"]).all()) != event
    outer = jax.make_jaxpr(lambda s, n: update(s, n, event=False))(state, jnp.int32(9)).jaxpr
    assert not {"while", "cond"} & {e.primitive.name for e in outer.eqns}


@pytest.mark.parametrize("regrow", [True, False])
def test_apply_returns_the_parameters_that_the_updates_lead_to(regrow):
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=0, interval_steps=2, damping=0.1, damping_steps=1.0, regrow=regrow
    )
    params, state = start(), transform.init(start())
    for step in range(1, 6):
        updates, after = transform.update(gradient(step), state, params, step=step)
        moved, same = transform.update(gradient(step), state, params, step=step, apply=True)  # pyright: ignore
        jax.tree.map(np.testing.assert_array_equal, moved, optax.apply_updates(params, updates))
        jax.tree.map(np.testing.assert_array_equal, same.masks, after.masks)
        params, state = moved, after
    assert int((~np.asarray(state.masks["w"])).sum()) == 32


def test_params_are_required():
    transform = project_onto_masks(LABELS, COMPONENTS, warmup_steps=0)
    with pytest.raises(ValueError, match="needs params"):
        transform.update(start(), transform.init(start()), None, step=1)
