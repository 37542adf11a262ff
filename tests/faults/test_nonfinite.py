"""A loss that is no number: where it came from is said, and nothing of it is kept."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from whole_runs import final_state

from deeplight_jax.config import config_hash, from_json, override, to_json
from deeplight_jax.data.loader import permuted, train_batches
from deeplight_jax.errors import RunError
from deeplight_jax.training import checkpoint, loop
from deeplight_jax.training.finite import check_state
from deeplight_jax.training.job import load_start, make_job
from deeplight_jax.training.loop import train
from deeplight_jax.training.record import save

BATCH, EPOCH, ROW = 100, 24, 1234


@pytest.fixture(scope="module")
def poisoned(world):
    """The world with a numeric value in one training row that is no number."""
    split = world.split("train")
    assert -(-split.rows // BATCH) == EPOCH
    values = np.array(split.values)
    values[ROW, 0] = np.inf
    return replace(world, splits={**world.splits, "train": replace(split, values=values)})


@pytest.fixture(scope="module")
def bad_steps(world):
    """The step of each epoch whose batch holds that row."""
    rows = world.split("train").rows
    orders = [permuted(np.arange(rows), rows, 0, epoch) for epoch in range(3)]
    return [int(np.flatnonzero(o == ROW)[0]) // BATCH + 1 + EPOCH * e for e, o in enumerate(orders)]


@pytest.fixture(scope="module")
def plain(config):
    return override(config, {"train.checkpoint_steps": 3, "model.dropout": 0.0})


def test_it_stops_and_says_where_it_came_from(plain, poisoned, bad_steps, tmp_path):
    step = bad_steps[0]
    told = (
        rf"loss is not finite at step {step}; lower optim.learning_rate or set train.on_nonfinite=skip "
        rf"\(the last good checkpoint is kept in .*checkpoints\); step {step} is batch {step} of {EPOCH} of "
        r"epoch 1: the gradient of [a-z_0-9/]+( and \d+ more)? is not finite; the largest weight is one of "
    )
    with pytest.raises(RunError, match=told):
        train(plain, tmp_path / "run", data=poisoned)
    last = (step - 1) // 3 * 3
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints")[-1] == last
    job = make_job(plain, tmp_path / "run", poisoned, lambda *_: None)
    kept = load_start(job, None)
    check_state(job, kept.state)
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_cause_is_looked_for_with_the_failed_state_gone(plain, poisoned, monkeypatch, tmp_path):
    config, held = override(plain, {"model.embedding_dim": 7}), []

    def look(job, masks, step):
        table = (poisoned.schema.num_rows, 7)
        held.extend(x for x in jax.live_arrays() if x.shape == table and not x.is_deleted())
        return "found"

    monkeypatch.setattr(loop, "explain", look)
    with pytest.raises(RunError, match="found"):
        train(config, tmp_path / "run", data=poisoned)
    assert not held


def test_skipping_drops_those_updates_and_no_others(plain, poisoned, bad_steps, tmp_path):
    """Against a loop of unguarded steps that leaves the poisoned batches out."""
    config = override(plain, {"train.on_nonfinite": "skip"})
    result = train(config, tmp_path / "run", data=poisoned)
    assert result["skipped_steps"] == 3
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    reported = {row["step"]: row["skipped"] for row in rows if "skipped" in row}
    assert reported == {-(-step // 3) * 3: 1 for step in bad_steps}
    job = make_job(plain, tmp_path / "other", poisoned, lambda *_: None)
    state = load_start(job, None).state
    batches = train_batches(poisoned.split("train"), BATCH, 0)
    for step in range(1, 3 * EPOCH + 1):
        batch = next(batches)
        state = state.replace(step=jnp.int32(step)) if step in bad_steps else job.step(state, batch, step)[0]
    found = final_state(config, tmp_path / "run", poisoned)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert np.isfinite(np.asarray(a, np.float64)).all()
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-4, atol=1e-7)


def test_where_every_step_is_skipped_it_stops(plain, world, tmp_path):
    split = world.split("train")
    nowhere = replace(split, values=np.full_like(split.values, np.inf))
    data = replace(world, splits={**world.splits, "train": nowhere})
    config = override(plain, {"train.on_nonfinite": "skip", "train.checkpoint_steps": 0})
    with pytest.raises(RunError, match=r"not finite at every step from 1 to 24; lower optim\.learning_rate"):
        train(config, tmp_path / "run", data=data)
    assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints") == []


def test_a_state_with_a_nan_is_neither_saved_nor_reported(plain, world, tmp_path):
    """The loss of a step is of the weights before its update: the last update may be the bad one."""
    job = make_job(plain, tmp_path / "run", world, lambda *_: None)
    state = load_start(job, None).state
    table = state.params["deep"]["hidden_0"]["kernel"].at[2, 1].set(jnp.nan)
    deep = {**state.params["deep"], "hidden_0": {**state.params["deep"]["hidden_0"], "kernel": table}}
    with pytest.raises(RunError, match=r"params/deep/hidden_0/kernel is not finite after step 0; lower"):
        save(job, state.replace(params={**state.params, "deep": deep}), [], 0.0)
    adam = jax.tree.map(lambda x: x * jnp.inf, state.opt_state[0].inner_state)
    moments = state.opt_state[0]._replace(inner_state=adam)
    with pytest.raises(RunError, match=r"moments/.* is not finite after step 0; lower"):
        save(job, state.replace(opt_state=(moments, *state.opt_state[1:])), [], 0.0)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_runs_from_before_the_key_are_the_same_runs(plain):
    old = json.loads(to_json(plain))
    del old["train"]["on_nonfinite"]
    assert config_hash(from_json(json.dumps(old))) == config_hash(plain)
    assert config_hash(override(plain, {"train.on_nonfinite": "skip"})) != config_hash(plain)


@pytest.mark.parametrize("label", ["2", "-1", "0.5", "nan", "yes", "1e0", ""])
def test_a_label_that_is_neither_0_nor_1_is_refused_at_preparation(label, tmp_path):
    from deeplight_jax.data.encode import prepare
    from deeplight_jax.data.recipes import RECIPES

    good = "\t".join(["1", *["3"] * 13, *["a"] * 26])
    bad = "\t".join([label, *["3"] * 13, *["a"] * 26])
    (tmp_path / "raw.txt").write_text("\n".join([good, bad, good.replace("1", "0", 1)] * 20) + "\n")
    data = prepare(RECIPES["criteo"], [tmp_path / "raw.txt"], tmp_path / "data")
    assert data.manifest["accepted"] == 40
    assert data.manifest["rejected"]["total"] == 20
    assert ["label" in reason for reason in data.manifest["rejected"]["by_reason"]] == [True]
    assert {int(x) for split in data.splits.values() for x in split.label} == {0, 1}
