"""The whole run: what it reports, that it resumes bit for bit, and what it refuses."""

import json
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from whole_runs import assert_equal_trees, final_state, run_until

from deeplight_jax.config import config_hash, override
from deeplight_jax.errors import ConfigError, DataError, RunError
from deeplight_jax.training import checkpoint
from deeplight_jax.training import job as jobs
from deeplight_jax.training.before import params_before
from deeplight_jax.training.digests import split_step
from deeplight_jax.training.inspect import evaluate, load_run
from deeplight_jax.training.job import make_job
from deeplight_jax.training.loop import train
from deeplight_jax.training.state import init_state

EPOCH = 25  # 3,200 rows in batches of 128


@pytest.fixture(scope="module")
def steps():
    """The jitted steps that `whole` made."""
    return []


@pytest.fixture(scope="module")
def whole(config, steps, tmp_path_factory):
    workdir, make = tmp_path_factory.mktemp("whole") / "run", jobs.make_train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "make_train_step", lambda *a: steps.append(make(*a)) or steps[-1])
        return workdir, train(config, workdir)


@pytest.fixture(scope="module")
def calm(config, tmp_path_factory):
    """A config with checkpoints in mid-epoch, and its run that nothing stopped."""
    config, workdir = (
        override(config, {"train.checkpoint_steps": 11}),
        tmp_path_factory.mktemp("calm") / "run",
    )
    train(config, workdir)
    return config, workdir


def test_result_holds_what_it_promises(whole, config, world):
    workdir, result = whole
    assert json.loads((workdir / "result.json").read_text()) == result
    assert result["split"] == "test"
    assert result["examples"] == 400
    assert 0.5 < result["roc_auc"] < 1
    assert 0 < result["log_loss"] < 0.8
    assert result["steps"] == 3 * EPOCH
    assert result["config_hash"] == config_hash(config)
    assert result["data_hash"] == world.content_hash
    assert result["wall_s"] > 0
    assert result["versions"]["jax"] == jax.__version__
    assert "rescaled" in result["notice"]
    for code, target in {"dnn": 0.9, "field": 0.8, "embedding": 0.4}.items():
        part = result["components"][code]
        assert part["target"] == target
        # the schedule is asked for 99 % of the target; zeros of one-row layers may add a few
        assert part["rate"] == pytest.approx(0.99 * target, abs=0.02)
        assert part["rate"] == pytest.approx(1 - part["nonzero"] / part["total"])
    assert result["params_nonzero"] < result["params_total"]
    assert result["bytes"] < 4 * result["params_total"]


def test_metrics_lines_and_events(whole):
    workdir, _ = whole
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [r for r in rows if "loss" in r]
    valid = [r for r in rows if r.get("split") == "valid"]
    assert [r["step"] for r in valid] == [EPOCH, 2 * EPOCH, 3 * EPOCH]
    assert [r["step"] for r in losses] == [EPOCH, 2 * EPOCH, 3 * EPOCH]
    assert valid[0]["rate_dnn"] == 0.0  # warm-up prunes nothing
    assert 0 < valid[1]["rate_dnn"] < valid[2]["rate_dnn"]
    assert list((workdir / "tensorboard").glob("events.*"))


def test_only_a_fully_pruned_model_may_be_the_best(whole):
    _, result = whole
    assert result["best_step"] == 3 * EPOCH  # earlier epochs had not reached the targets


def test_every_reported_number_is_of_the_projected_model(whole, config, world):
    workdir, result = whole
    run = load_run(workdir)
    state = final_state(config, workdir, world)
    expected = jax.tree.map(
        lambda m, p: p if isinstance(m, optax.MaskedNode) else np.where(m, p, 0),
        state.masks, state.params, is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )  # fmt: skip
    assert_equal_trees(run.params, expected)
    again = evaluate(workdir, "test")
    for key in ("roc_auc", "log_loss", "calibration_ratio", "params_nonzero", "components"):
        assert again[key] == result[key]
    assert evaluate(workdir, "valid")["roc_auc"] == result["valid"]["roc_auc"]


def test_a_finished_run_is_not_trained_again(whole, config):
    workdir, result = whole
    assert train(config, workdir, progress=lambda *_: pytest.fail("it trained")) == result


@pytest.mark.parametrize("seed", range(2))
def test_interrupted_equals_uninterrupted_bit_for_bit(seed, calm, world, tmp_path):
    """Stopped at two random steps, with checkpoints in mid-epoch: the same parameters, masks, metrics."""
    config, undisturbed = calm
    rng = np.random.default_rng(seed)
    for step in sorted(rng.choice(np.arange(12, 3 * EPOCH), 2, replace=False)):
        run_until(config, tmp_path / "stopped", int(step))
    train(config, tmp_path / "stopped")
    runs = (undisturbed, tmp_path / "stopped")
    wanted, stopped = (final_state(config, run, world) for run in runs)
    assert_equal_trees(stopped, wanted)
    lines = [(run / "metrics.jsonl").read_text() for run in runs]
    assert lines[0] == lines[1]
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    for result in results:
        assert result.pop("wall_s") > 0
    assert results[0] == results[1]


def test_interrupted_before_the_first_checkpoint(config, world, tmp_path, whole):
    run_until(config, tmp_path / "run", 5)
    train(config, tmp_path / "run")
    assert_equal_trees(final_state(config, tmp_path / "run", world), final_state(config, whole[0], world))


def test_a_checkpoint_half_deleted_behind_the_last_save_is_gone_with_the_run(config, world, tmp_path, whole):
    run_until(config, tmp_path / "run", 3 * EPOCH)  # saved and pruned; the result is owed
    left = tmp_path / "run" / "checkpoints" / str(EPOCH - 1)
    (left / "state").mkdir(parents=True)
    result = train(config, tmp_path / "run")
    assert not left.exists()
    assert result["roc_auc"] == whole[1]["roc_auc"]


def test_pruning_from_a_dense_warmup_is_pruning_from_scratch(config, whole, tmp_path):
    """Up to rounding: the dense step is another program, which XLA may fuse in another order."""
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0}
    train(override(config, {**dense, "train.epochs": 1}), tmp_path / "warmup")
    branch = override(config, {"train.init_from": tmp_path / "warmup"})
    result = train(branch, tmp_path / "pruned")
    assert result["steps"] == whole[1]["steps"]
    assert result["components"] == whole[1]["components"]
    assert result["log_loss"] == pytest.approx(whole[1]["log_loss"], rel=1e-3)
    with pytest.raises(RunError, match="no such checkpoint"):
        train(override(config, {"train.init_from": f"{tmp_path / 'warmup'}@x"}), tmp_path / "other")
    with pytest.raises(RunError, match=r"no such checkpoint \(it has 25\)"):
        train(override(config, {"train.init_from": f"{tmp_path / 'warmup'}@26"}), tmp_path / "other")
    for keys, which in (
        ({"model.name": "lr", **dense}, r"bias is missing there and \(\) here"),
        ({"model.hidden": (8, 4)}, r"deep/hidden_1/bias is \(6,\) there and \(4,\) here"),
    ):
        with pytest.raises(RunError, match=f"holds another model \\({which}"):
            train(override(branch, keys), tmp_path / "other")
    assert not (tmp_path / "other").exists()  # nothing is claimed by a run that cannot begin


def test_a_run_may_start_from_one_over_more_rows(config, world, tmp_path):
    """Whose own schedule would be too short for these."""
    strict = {"sparsity.short_schedule": "error", "sparsity.damping_steps": 0.04, "train.epochs": 2}
    train(override(config, strict), tmp_path / "more")
    rows = world.split("train")
    few = replace(rows, ids=rows.ids[:300], values=rows.values[:300], label=rows.label[:300])
    onward = override(config, {"train.init_from": tmp_path / "more", "train.epochs": 22})
    result = train(onward, tmp_path / "few", data=replace(world, splits={**world.splits, "train": few}))
    assert result["steps"] == 22 * 3


def test_a_run_that_begins_behind_its_events_has_reached_no_target(config, tmp_path):
    """Its schedule would have pruned at step 65; it begins at 75, and the next event is at 105."""
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0}
    train(override(config, dense), tmp_path / "dense")
    late = {
        "train.init_from": tmp_path / "dense",
        "sparsity.interval_steps": 40,
        "sparsity.damping_steps": 0.05,
    }
    branch = override(config, late | {"train.epochs": 5})
    result = train(branch, tmp_path / "late")
    assert result["best_step"] == 5 * EPOCH  # not 100, where nothing is pruned yet
    assert result["components"]["dnn"]["rate"] > 0.89
    with pytest.raises(RunError, match="no evaluation reached the target rates"):
        train(override(branch, {"train.epochs": 4}), tmp_path / "never")


def test_a_start_of_another_model_is_seen_where_its_moments_have_the_same_shapes(config, tmp_path):
    """Row-wise Adagrad has one number a row, of whatever length."""
    fm = {
        "model.name": "fm",
        "optim.embedding": "rowwise_adagrad",
        "sparsity.dnn": 0.0,
        "sparsity.field": 0.0,
    }
    short = override(config, fm | {"train.epochs": 1, "sparsity.embedding": 0.0})
    train(short, tmp_path / "three")
    longer = fm | {"train.init_from": tmp_path / "three", "model.embedding_dim": 4}
    with pytest.raises(RunError, match=r"embedding/table is \(\d+, 3\) there and \(\d+, 4\) here"):
        train(override(config, longer), tmp_path / "four")


def test_a_path_may_have_an_at_sign_of_its_own(config, tmp_path):
    home = tmp_path / "me@corp"
    assert split_step(home / "run") == (home / "run", "")
    assert split_step(f"{home / 'run'}@25") == (home / "run", "25")
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0}
    train(override(config, {**dense, "train.epochs": 1}), home / "warm@up")
    assert [load_run(home / f"warm@up{step}").step for step in ("", f"@{EPOCH}")] == [EPOCH, EPOCH]
    train(override(config, {"train.init_from": home / "warm@up"}), home / "run")
    assert params_before(load_run(home / "run"), home / "run").source == "the run it started from, warm@up"
    with pytest.raises(RunError, match="me@corp/run@x: a step is a number"):
        load_run(home / "run@x")


def test_the_step_compiles_once(whole, steps):
    assert [s._cache_size() for s in steps] == [1]


def test_patience_stops_early_and_the_best_checkpoint_is_kept(config, tmp_path):
    patient = override(
        config,
        {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0, "optim.learning_rate": 0.05}
        | {"train.epochs": 30, "train.patience": 2, "model.dropout": 0.0, "train.keep": 1},
    )
    result = train(patient, tmp_path / "run")
    assert result["steps"] == result["best_step"] + 2 * EPOCH < 30 * EPOCH
    kept = checkpoint.saved_steps(tmp_path / "run" / "checkpoints")
    assert kept == [result["best_step"], result["steps"]]


def test_patience_counts_epochs_of_a_single_step(config, tmp_path):
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0}
    hasty = {"data.batch_size": 4_000, "optim.learning_rate": 0.5, "train.epochs": 40, "train.patience": 2}
    result = train(override(config, dense | hasty), tmp_path / "run")
    assert result["steps"] == result["best_step"] + 2 < 40


@pytest.mark.parametrize("model", ["lr", "fm", "fwfm"])
def test_the_other_models_train_and_prune(model, config, tmp_path):
    codes = {"lr": {"embedding"}, "fm": {"embedding"}, "fwfm": {"field", "embedding"}}[model]
    lacking = {f"sparsity.{code}": 0.0 for code in {"dnn", "field", "embedding"} - codes}
    other = override(config, {"model.name": model})
    with pytest.raises(ConfigError, match=f"sparsity.dnn=0.9, but model {model} has no such weights"):
        train(other, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    result = train(override(other, lacking), tmp_path / model)
    assert result["roc_auc"] > 0.5
    assert set(result["components"]) == codes


def test_another_config_or_other_data_is_refused(whole, config, world, tmp_path):
    workdir, _ = whole
    with pytest.raises(RunError, match=r"another config \(train.epochs=3 there, 4 here\)"):
        train(override(config, {"train.epochs": 4}), workdir)
    from deeplight_jax.data.synthetic import World, prepare_synthetic

    other = prepare_synthetic(tmp_path / "other", World(rows=4_000, largest=31, pairs=5))
    with pytest.raises(RunError, match="trained on other data"):
        train(override(config, {"data.dir": other.directory}), workdir)
    with pytest.raises(RunError, match=r"has \d+ rows, the run's C\d+ has \d+; encode the rows"):
        evaluate(workdir, "test", other.directory)
    assert evaluate(workdir, "test", world.directory)["examples"] == 400
    with pytest.raises(RunError, match="holds prepared data"):
        train(override(config, {"data.dir": other.directory}), other.directory)
    assert not (other.directory / "lock").exists()


def test_a_schedule_too_short_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"short of 99%; train longer or lower sparsity\.warmup_epochs or data\.batch_size, or set",
    ):
        train(override(config, {"sparsity.short_schedule": "error"}), tmp_path / "run")
    with pytest.raises(ConfigError, match="0 pruning steps"):
        train(override(config, {"sparsity.warmup_epochs": 3.0}), tmp_path / "run")
    with pytest.raises(DataError, match="run `deeplight prepare`"):
        train(override(config, {"data.dir": tmp_path}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_loss_stops_the_run_and_names_the_step(config, tmp_path):
    wild = override(config, {"optim.learning_rate": 1e30, "model.dropout": 0.0})
    with pytest.raises(RunError, match=r"loss is not finite at step \d+; lower optim.learning_rate"):
        train(wild, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def test_dropout_steps_end_dropout(config, world):
    """With dropout for 3 steps only, a later step's loss is the deterministic one."""
    from deeplight_jax.data.loader import train_batches
    from deeplight_jax.training.step import mean_log_loss

    job = make_job(override(config, {"model.dropout_steps": 3}), None, world, lambda *_: None)  # pyright: ignore
    state = init_state(job.model, world.schema, job.optimizer, 0)
    batches = train_batches(world.split("train"), 128, 0)
    for step in range(6):
        batch = next(batches)
        params = jax.tree.map(np.array, state.params)
        state, loss = job.step(state, batch, step + 1)
        plain = mean_log_loss(job.model.apply({"params": params}, batch.ids, batch.values), batch)
        assert np.isclose(loss, plain, rtol=1e-6) == (step >= 3)
