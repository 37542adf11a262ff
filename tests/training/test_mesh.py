"""Eight devices against one: look-ups, gradients, masks bit for bit; runs to rounding; what is sent."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from whole_runs import LONG, final_state, run_until

from deeplight_jax import mesh as meshes
from deeplight_jax.config import config_hash, default_config, from_json, override, to_json
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.layers.embedding import look_up
from deeplight_jax.models import abstract_params, build_model
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.masks import select_masks
from deeplight_jax.sweeping import Sweep, codes
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.training.inspect import evaluate, load_masks
from deeplight_jax.training.job import (
    PlacedStep,
    batches_behind,
    fresh_state,
    make_job,
    placed_step,
    true_state,
)
from deeplight_jax.training.loop import train
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import abstract_state

SHAPES = [(8, 1), (4, 2), (2, 4), (1, 8), (2, 3)]
ROWS = 41  # divides by none of them


@pytest.mark.parametrize("shape", SHAPES)
def test_look_up_and_its_gradient_are_those_of_one_device(shape):
    place = meshes.place(shape[0], shape[1], ROWS, 48)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(ROWS, 3)).astype(np.float32)
    ids = rng.integers(0, 19, (48, 2)).astype(np.int32)  # many twice
    ids[0] = (10_000, -10_000)  # clipped
    values = rng.normal(size=(48, 2)).astype(np.float32)
    weights = rng.normal(size=(48, 4, 3)).astype(np.float32)
    offsets = np.asarray([2, 21], np.int32)

    def embed(table, batch):
        return look_up(table, jnp.asarray(offsets), batch[0], batch[1])

    def pull(table, batch):
        return jax.vjp(lambda t: embed(t, batch[:2]), table)[1](batch[2])[0]

    batch = (ids, values, weights)
    like = jax.ShapeDtypeStruct(table.shape, table.dtype)

    def on_mesh(function, outputs):
        inputs = (place.shardings(like), (place.over_batch,) * 3)
        jitted = place.jit(lambda t, b: function(meshes.fit(t, like), b), inputs, outputs)
        return np.asarray(jitted(place.put(table), place.batch(batch, 48)))

    found = on_mesh(lambda t, b: embed(t, b[:2]), place.over_batch)
    np.testing.assert_array_equal(found, jax.jit(embed)(table, batch[:2]))
    gradient = on_mesh(lambda t, b: place.pad(pull(t, b)), place.shardings(like))[:ROWS]
    alone = np.asarray(jax.jit(pull)(table, batch))
    np.testing.assert_array_equal(gradient[2:], alone[2:])
    np.testing.assert_allclose(gradient[:2], alone[:2], rtol=1e-5)  # numeric rows: sums over the batch


PRUNED_ROWS = 20_011


@cache
def chosen_alone(scope):
    """Masks of a table at a rate, on one device."""
    component = Component("embedding", 0.5, scope, (11, PRUNED_ROWS - 11) if scope == "sections" else ())

    def choose(table, rate):
        return select_masks({"t": table}, {"t": "embedding"}, [component], {"embedding": rate})["t"]

    return jax.jit(choose)


@cache
def chosen_on_mesh(shape, scope):
    """The mesh, and masks of a padded table at a rate on it."""
    place = meshes.place(*shape, PRUNED_ROWS, 24)
    like = jax.ShapeDtypeStruct((PRUNED_ROWS, 7), np.float32)
    over, choose = place.shardings(like), chosen_alone(scope)
    return place, place.jit(
        lambda t, r: place.pad(choose(meshes.fit(t, like), r)), (over, place.everywhere), over
    )


@pytest.mark.parametrize("shape", [(2, 4), (2, 3)])
@pytest.mark.parametrize("scope", ["global", "sections", "rows"])
@pytest.mark.parametrize("ties", [False, True])
def test_masks_are_bit_identical(shape, scope, ties):
    rows = PRUNED_ROWS
    weights = np.random.default_rng(1).normal(size=(rows, 7)).astype(np.float32)
    if ties:
        weights = np.round(weights * 2)
    alone, (place, split) = chosen_alone(scope), chosen_on_mesh(shape, scope)
    for rate in (0.0, 0.1, 0.4, 0.77, 0.999):
        found = np.asarray(split(place.put(weights), rate))
        np.testing.assert_array_equal(found[:rows], alone(weights, rate))
        assert not found[rows:].any()


BIG = Schema((Field("x", "numeric", 1), Field("a", "categorical", 70_001), Field("b", "categorical", 30_000)))
COLLECTIVE = re.compile(
    r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast)"
    r"(?:-start)?\("
)


def sent(text):
    """Values of the largest array that a compiled program's collectives make."""
    shapes = [s for made in COLLECTIVE.findall(text) for s in re.findall(r"\w+\[([\d,]*)\]", made)]
    return max(int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model.linear": "weights", "sparsity.growth": "gradient", "sparsity.criterion": "movement"},
    ],
)
def test_no_collective_of_the_compiled_step_grows_with_the_table(settings):
    pruned = {"sparsity.dnn": 0.9, "sparsity.field": 0.8, "sparsity.embedding": 0.4}
    few = {"model.hidden": (8,), "data.batch_size": 16, "sparsity.short_schedule": "accept"}
    config = override(default_config(), pruned | few | settings)
    model, place = build_model(config, BIG), meshes.place(2, 4, BIG.num_rows, 16)
    _, labels = abstract_params(model, BIG)
    optimizer = build_optimizer(config, labels, make_plan(config, 10_000))
    step = placed_step(place, model, BIG, optimizer, config)
    state = place.padded(abstract_state(model, BIG, optimizer))
    f32, shape = jnp.float32, jax.ShapeDtypeStruct
    batch = Batch(shape((16, 2), jnp.int32), shape((16, 1), f32), shape((16,), f32), shape((16,), f32))
    assert isinstance(step, PlacedStep)
    text = step.program.lower(state, batch).compile().as_text()
    sample = 2 * 2**16  # of which the threshold's search sorts at most so many values
    assert 16 < sent(text) <= sample < BIG.num_rows * 10 / 7


@pytest.fixture(scope="module")
def one(config, tmp_path_factory):
    """A config whose batches divide by many numbers of devices, and its run on one."""
    config = override(config, {"data.batch_size": 120, "train.checkpoint_steps": 10})
    workdir = tmp_path_factory.mktemp("one") / "run"
    return config, workdir, train(config, workdir)


def test_a_run_may_go_on_on_other_meshes(one, world, tmp_path):
    config, calm, expected = one
    workdir = tmp_path / "run"
    on = {(d, t): override(config, {"mesh.data": d, "mesh.table": t}) for d, t in ((4, 2), (2, 3))}
    run_until(on[4, 2], workdir, 23)
    run_until(config, workdir, 38)
    result = train(on[2, 3], workdir)
    for name in ("roc_auc", "log_loss", "calibration_ratio"):
        assert result[name] == pytest.approx(expected[name], abs=2e-3)
    for name in ("components", "params_total", "params_nonzero", "bytes", "config_hash"):
        assert result[name] == expected[name]
    found, wanted = (final_state(config, w, world) for w in (workdir, calm))
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        name = jax.tree_util.keystr(path)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(wanted.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    here = evaluate(workdir)  # on one device
    assert here["roc_auc"] == pytest.approx(result["roc_auc"], abs=1e-6)
    assert here["params_nonzero"] == result["params_nonzero"]
    masks = jax.tree.leaves(load_masks(workdir).masks)
    assert [m.shape for m in masks] == [m.shape for m in jax.tree.leaves(load_masks(calm).masks)]


@pytest.mark.parametrize("apart", [False, True])
def test_a_mesh_starts_from_the_same_weights_and_steps_alike(apart, one, world, tmp_path, monkeypatch):
    """With one program, and as on GPUs with one for the steps that are events and one for others."""
    monkeypatch.setattr("deeplight_jax.training.step.device_is_apart", lambda: apart)
    config = override(one[0], {"sparsity.warmup_epochs": 0.0, "sparsity.interval_steps": 2})
    jobs = [
        make_job(override(config, {"mesh.data": d, "mesh.table": t}), tmp_path, world, lambda *_: None)
        for d, t in ((1, 1), (4, 2))
    ]
    states = [fresh_state(job) for job in jobs]
    like = true_state(jobs[0])
    for a, b in zip(*(jax.tree.leaves(j.place.gather(s, like)) for j, s in zip(jobs, states, strict=True)),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    for step in (1, 2):
        losses = []
        for i, job in enumerate(jobs):
            batch = next(batches_behind(job, 0))
            states[i], loss = job.step(states[i], batch, step)
            losses.append(float(loss))
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert [int(state.churn.events) for state in states] == [1, 1]


@LONG
def test_a_diverging_run_on_a_mesh_names_the_parameter(one, tmp_path):
    wild = override(one[0], {"optim.learning_rate": 1e30, "mesh.data": 4, "mesh.table": 2})
    with pytest.raises(RunError, match=r"not finite at step \d+.*the gradient of .* is not finite"):
        train(wild, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mesh.data": 4, "mesh.table": 4}, r"16 devices, and there are 8 .*device_count=16"),
        ({"mesh.data": 3}, r"data.batch_size=128 does not divide by the 3 devices of mesh.data=3"),
    ],
)
def test_what_cannot_be_placed_is_refused_before_anything_is_written(config, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(override(config, settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_compiled_sweep_refuses_a_mesh(config, tmp_path):
    sweep = Sweep(override(config, {"mesh.data": 2}), codes("D90-R90-F40"))
    with pytest.raises(ConfigError, match=r"mesh\.data=2.*--backend sequential"):
        run_sweep(sweep, tmp_path / "sweep", Options("compiled"))


def test_a_mesh_is_a_place_and_runs_from_before_it_have_one_device(config):
    split = override(config, {"mesh.data": 4, "mesh.table": 2})
    assert config_hash(split) == config_hash(config)
    older = re.sub(r',?\n "mesh": \{[^}]*\}', "", to_json(config))
    assert '"mesh"' not in older
    assert from_json(older) == config
    with pytest.raises(ConfigError, match=r"mesh\.table=0 must be 1 or more"):
        override(config, {"mesh.table": 0})
