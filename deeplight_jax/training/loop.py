"""The training loop: batches through the step, an evaluation and checkpoint an epoch, one result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from tensorboardX import SummaryWriter

from deeplight_jax.config import Config, config_hash
from deeplight_jax.data.loader import train_batches
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import RunError
from deeplight_jax.evaluation.accounting import sparsity_report
from deeplight_jax.evaluation.evaluate import evaluate_split
from deeplight_jax.models import abstract_params, build_model
from deeplight_jax.sparsity.churn import read_churn
from deeplight_jax.sparsity.components import Labels, Masks
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.history import Evaluation, best, should_stop
from deeplight_jax.training.merging import load_initial_masks
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import Plan, check_prunable, is_ripe, make_plan, targets
from deeplight_jax.training.state import TrainState, abstract_state, init_state
from deeplight_jax.training.step import TrainStep, make_train_step

_LOG = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
_REPORT_STEPS = 100  # the loss is fetched from the device and written this often


class Job(NamedTuple):
    """What a run works with; nothing in it changes while it trains."""

    config: Config
    workdir: Path
    data: Prepared
    plan: Plan
    model: nn.Module
    labels: Labels
    step: TrainStep
    optimizer: Any
    progress: Progress


def train(
    config: Config, workdir: str | Path, *, data: Prepared | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train, prune, evaluate; or go on where an interrupted run of the same config stopped.

    Args:
      config: of `load_config`.
      workdir: the run's directory; a finished run there is returned as it is.
      data: an opened data set; by default `config.data.dir` is opened.
      progress: called as `progress(what, done, total)` after each step and evaluated batch.

    Returns:
      The content of `result.json`: metrics of the projected best model, chosen on the validation split and
      evaluated once on the test split.

    Raises:
      ConfigError: the config cannot be carried out (say, a schedule too short for its targets).
      MaskError: the masks to start from are missing, or of another model or other data.
      DataError: the data is missing or damaged.
      RunError: the directory belongs to another run, a checkpoint is damaged, or the loss diverged.
    """
    workdir = Path(workdir)
    data = data or open_prepared(config.data.dir, verify=config.data.verify)
    job = _make_job(config, workdir, data, progress or (lambda *_: None))
    masks = _masks_to_start_from(job)
    run.start(workdir, config, data)
    if finished := run.load_result(workdir):
        return finished
    if job.plan.notice:
        _LOG.warning("%s", job.plan.notice)
    began = time.monotonic()
    state, history, before_s = _start_or_resume(job, masks)
    with SummaryWriter(str(workdir / "tensorboard"), purge_step=int(state.step) + 1) as events:
        history, wall_s = _train_epochs(job, state, history, events, began - before_s)
    return _conclude(job, history, wall_s)


def check(config: Config, workdir: str | Path, data: Prepared) -> None:
    """Whether `train` could begin: what can be known of a run without any training.

    Raises:
      ConfigError: the config cannot be carried out on the data.
      RunError: the directory belongs to another run.
    """
    _make_job(config, Path(workdir), data, lambda *_: None)
    run.check_same(Path(workdir), config, data)


def _make_job(config: Config, workdir: Path, data: Prepared, progress: Progress) -> Job:
    plan = make_plan(config, data.split("train").rows, [f.size for f in data.schema.fields])
    model = build_model(config, data.schema)
    _, labels = abstract_params(model, data.schema)
    check_prunable(plan, labels, config.model.name)
    optimizer = build_optimizer(config, labels, plan)
    step = make_train_step(model, optimizer, config)
    return Job(config, workdir, data, plan, model, labels, step, optimizer, progress)


def _masks_to_start_from(job: Job) -> Masks | None:
    """Those of `sparsity.init_masks`; None if there are none, or the run has begun or ended already."""
    file = job.config.sparsity.init_masks
    if not file or checkpoint.saved_steps(job.workdir / "checkpoints") or run.load_result(job.workdir):
        return None
    return load_initial_masks(file, job.config.model.name, job.model, job.data)


def _start_or_resume(job: Job, masks: Masks | None) -> tuple[TrainState, list[Evaluation], float]:
    """State, evaluations so far and seconds spent, from the newest checkpoint, `init_from`, or scratch."""
    directory = job.workdir / "checkpoints"
    like = abstract_state(job.model, job.data.schema, job.optimizer)
    if steps := checkpoint.saved_steps(directory):
        state, about = checkpoint.restore(directory, steps[-1], like)
        run.rewind_metrics(job.workdir, steps[-1])
        return state, [Evaluation(**e) for e in about["history"]], about["wall_s"]
    run.rewind_metrics(job.workdir, -1)
    if job.config.train.init_from:
        state = _inherit(job)
    else:
        state = init_state(job.model, job.data.schema, job.optimizer, job.config.seed)
    return (state if masks is None else state.held_to(masks)), [], 0.0


def _inherit(job: Job) -> TrainState:
    """Another run's weights, Adam moments and step, under this run's schedule and fresh masks."""
    name, _, step = job.config.train.init_from.partition("@")
    source = Path(name)
    run.check_fits(source, job.data)
    steps = checkpoint.saved_steps(source / "checkpoints")
    if not steps or (step and not step.isdigit()):
        raise RunError(
            f"train.init_from={job.config.train.init_from}: no such checkpoint; write RUN or RUN@STEP"
        )
    parent = _make_job(run.load_config_of(source), source, job.data, job.progress)
    like = abstract_state(parent.model, job.data.schema, parent.optimizer)
    found, _ = checkpoint.restore(source / "checkpoints", int(step) if step else steps[-1], like)
    fresh = init_state(job.model, job.data.schema, job.optimizer, job.config.seed)
    if jax.tree.structure(fresh.params) != jax.tree.structure(found.params):
        raise RunError(
            f"train.init_from: {source} holds another model than model.name={job.config.model.name}"
        )
    moments = found.opt_state[0]
    adam = fresh.opt_state[0]._replace(count=moments.count, inner_state=moments.inner_state)
    return fresh.replace(step=found.step, params=found.params, opt_state=(adam, fresh.opt_state[-1]))


def _train_epochs(
    job: Job, state: TrainState, history: list[Evaluation], events: SummaryWriter, began: float
) -> tuple[list[Evaluation], float]:
    """Steps to the planned end, or until patience runs out; returns evaluations and seconds spent."""
    plan, train_config = job.plan, job.config.train
    first = int(state.step)
    batches = train_batches(
        job.data.split("train"), job.config.data.batch_size, job.config.seed, first_step=first
    )
    losses: list[jax.Array] = []
    for step in range(first + 1, plan.total_steps + 1):
        if step % plan.epoch_steps == 1 and should_stop(history, train_config.monitor, train_config.patience):
            break
        state, loss = job.step(state, next(batches))
        losses.append(loss)
        epoch_ends = step % plan.epoch_steps == 0
        saves = epoch_ends or (train_config.checkpoint_steps and step % train_config.checkpoint_steps == 0)
        if saves or step % _REPORT_STEPS == 0:
            _report(job, state, step, losses, events)
            losses = []
        if epoch_ends:
            history = [*history, _evaluate_epoch(job, state, step, events)]
        if saves:
            _save(job, state, history, time.monotonic() - began)
        job.progress("training", step, plan.total_steps)
    return history, time.monotonic() - began


def _report(job: Job, state: TrainState, step: int, losses: list[jax.Array], events: SummaryWriter) -> None:
    """The mean loss since the last report, and how often masks have moved since the run began."""
    values = np.asarray(jax.device_get(losses), np.float64)
    if not np.isfinite(values).all():
        bad = step - len(values) + 1 + int(np.flatnonzero(~np.isfinite(values))[0])
        raise RunError(
            f"the loss is not finite at step {bad}; lower optim.learning_rate "
            f"(the last good checkpoint is kept in {job.workdir / 'checkpoints'})"
        )
    count, moves = read_churn(state.churn)
    churn = {"events": count, **{code: m._asdict() for code, m in moves.items()}}
    row = {"step": step, "epoch": step / job.plan.epoch_steps, "loss": float(values.mean())}
    run.append_metrics(job.workdir, row | ({"churn": churn} if moves else {}))
    events.add_scalar("train/loss", row["loss"], step)
    for code, moved in moves.items():
        events.add_scalar(f"churn/{code}_pruned", moved.pruned, step)
        events.add_scalar(f"churn/{code}_regrown", moved.regrown, step)


def _evaluate_epoch(job: Job, state: TrainState, step: int, events: SummaryWriter) -> Evaluation:
    """Metrics of the projected model on the validation split, written down."""
    params = state.projected()
    split = job.data.split("valid")
    metrics = evaluate_split(job.model, params, split, job.config.eval.batch_size, job.progress)
    report = sparsity_report(params, job.labels, targets(job.plan))
    rates = {f"rate_{code}": c["rate"] for code, c in report["components"].items()}
    row = {"step": step, "epoch": step / job.plan.epoch_steps, "split": "valid", **metrics.to_json(), **rates}
    run.append_metrics(job.workdir, row)
    for name in ("roc_auc", "log_loss", "calibration_ratio", *rates):
        events.add_scalar(f"valid/{name}", row[name], step)
    return Evaluation(step, is_ripe(job.plan, job.config, step), metrics.roc_auc, metrics.log_loss)


def _save(job: Job, state: TrainState, history: list[Evaluation], wall_s: float) -> None:
    """Checkpoint, then drop all but the latest few and the best."""
    directory = job.workdir / "checkpoints"
    about = {"history": [e._asdict() for e in history], "wall_s": wall_s}
    checkpoint.save(directory, state, about, job.labels)
    leader = best(history, job.config.train.monitor)
    latest = checkpoint.saved_steps(directory)[-job.config.train.keep :]
    checkpoint.prune(directory, {*latest, *([leader.step] if leader else [])})


def _conclude(job: Job, history: list[Evaluation], wall_s: float) -> dict[str, Any]:
    """Evaluate the best checkpoint on the test split, once, and write the result."""
    leader = best(history, job.config.train.monitor)
    if leader is None:
        raise RunError(f"{job.workdir}: no evaluation reached the target rates; train for more epochs")
    like = abstract_state(job.model, job.data.schema, job.optimizer)
    state, _ = checkpoint.restore(job.workdir / "checkpoints", leader.step, like)
    params = state.projected()
    name = "test" if "test" in job.data.splits and job.data.splits["test"].rows else "valid"
    metrics = evaluate_split(
        job.model, params, job.data.split(name), job.config.eval.batch_size, job.progress
    )
    result = {
        **metrics.to_json(),
        "split": name,
        "steps": history[-1].step,
        "best_step": leader.step,
        "valid": {"roc_auc": leader.roc_auc, "log_loss": leader.log_loss},
        **sparsity_report(params, job.labels, targets(job.plan)),
        "notice": job.plan.notice,
        "model": job.config.model.name,
        "config_hash": config_hash(job.config),
        "data_hash": job.data.content_hash,
        "versions": run.versions(),
        "wall_s": wall_s,
    }
    run.write_result(job.workdir, result)
    return result
