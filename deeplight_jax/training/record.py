"""What a run writes down while it trains: losses, evaluations, checkpoints and, once, its result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from deeplight_jax.config import config_hash
from deeplight_jax.errors import RunError
from deeplight_jax.evaluation.accounting import sparsity_report
from deeplight_jax.evaluation.evaluate import make_scorer, metrics_of, score_each
from deeplight_jax.evaluation.metrics import Metrics
from deeplight_jax.models import abstract_params
from deeplight_jax.sparsity.churn import Churn, read_churn
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.events import ScalarEvents
from deeplight_jax.training.finite import check_losses, check_state
from deeplight_jax.training.hosts import first_does, meet
from deeplight_jax.training.job import Job, true_state
from deeplight_jax.training.plan import is_ripe, targets
from deeplight_jax.training.standing import Evaluation, Standing
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.stored import ROWS_BEHIND

_LOG = logging.getLogger(__name__)


def report(
    job: Job, churn: Churn, step: int, losses: Sequence[jax.typing.ArrayLike], events: ScalarEvents
) -> None:
    """Write the mean loss since the last report, and how often masks have moved since the run began.

    Args:
      job: the run.
      churn: of its state after `step`.
      step: the last one.
      losses: f32[] of each step since the last report.
      events: where TensorBoard looks.

    Raises:
      LossNotFinite: a loss is not finite and no step may be skipped, or all were; the step is named.
    """
    values = check_losses(job, step, losses)
    count, moves = read_churn(churn)
    moved = {"events": count, **{code: m._asdict() for code, m in moves.items()}}
    row: dict[str, Any] = {"step": step, "epoch": step / job.plan.epoch_steps}
    if skipped := int(np.isnan(values).sum()):
        _LOG.warning("%d of the %d steps up to %d skipped: not finite", skipped, len(values), step)
        row["skipped"] = skipped
        values = values[~np.isnan(values)]
    if values.size:
        row["loss"] = float(values.mean())
        events.add_scalar("train/loss", row["loss"], step)
    first_does(run.append_metrics, job.workdir, row | ({"churn": moved} if moves else {}))
    for code, m in moves.items():
        events.add_scalar(f"churn/{code}_pruned", m.pruned, step)
        events.add_scalar(f"churn/{code}_regrown", m.regrown, step)
    events.flush()


def evaluate_epoch(job: Job, state: TrainState, step: int, events: ScalarEvents) -> Evaluation:
    """Metrics of the projected model on the validation split, written down."""
    check_state(job, state)
    params = state.projected()
    metrics = _evaluate(job, params, "valid")
    return record_evaluation(job, _whole(job, params), state.churn, metrics, step, events)


def _evaluate(job: Job, params: Any, split: str) -> Metrics:
    """Metrics of projected parameters, as the placement holds them."""
    rows = job.data.split(split)
    scorer = make_scorer(job.model, job.data.schema, job.config.eval.batch_size, job.place)
    return metrics_of(score_each(scorer, [params], rows, job.progress)[0], rows)


def _whole(job: Job, params: Any) -> Any:
    """Parameters on this host, of their true shapes."""
    return job.place.gather(params, abstract_params(job.model, job.data.schema)[0])


def record_evaluation(
    job: Job, params: Any, churn: Churn, metrics: Metrics, step: int, events: ScalarEvents
) -> Evaluation:
    """Write down the validation metrics of projected parameters after some step, whose churn is given."""
    report = sparsity_report(params, job.labels, targets(job.plan))
    rates = {f"rate_{code}": c["rate"] for code, c in report["components"].items()}
    row = {"step": step, "epoch": step / job.plan.epoch_steps, "split": "valid", **metrics.to_json(), **rates}
    first_does(run.append_metrics, job.workdir, row)
    for name in ("roc_auc", "log_loss", "calibration_ratio", *rates):
        events.add_scalar(f"valid/{name}", row[name], step)
    events.flush()
    ripe = is_ripe(job.plan, job.config, step, pruned=int(churn.events) > 0)
    return Evaluation(step, ripe, metrics.roc_auc, metrics.log_loss)


def save(
    job: Job,
    state: TrainState,
    standing: Standing,
    wall_s: float,
    losses: Sequence[jax.typing.ArrayLike] = (),
) -> None:
    """Write a checkpoint; `forget` drops what it makes needless.

    Args:
      job: the run.
      state: what to save.
      standing: after the evaluations so far.
      wall_s: seconds spent so far.
      losses: f32[] of each step since the last report.

    Raises:
      RunError: a loss, a weight or a moment is not finite, or the disk refuses it.
    """
    step = int(state.step)
    check_state(job, state)
    pending = [None if np.isnan(x) else float(x) for x in check_losses(job, step, losses)]
    owes = step % job.plan.epoch_steps == 0 and (standing.last is None or standing.last.step != step)
    about = {"standing": standing.to_json(), "wall_s": wall_s}
    about |= {"losses": pending, "owes_evaluation": owes}
    true = None
    if job.place.mesh is not None:
        like = true_state(job)
        true = job.place.gather(state.masks, like.masks), like.params
        about[ROWS_BEHIND] = job.place.rows_behind
    checkpoint.save(job.workdir / "checkpoints", state, about, job.labels, true)


def forget(job: Job, standing: Standing, step: int) -> None:
    """Drop all checkpoints but the latest few up to a step, which is saved, and the best.

    Later ones are of a program that was killed while other members of a sweep had not saved them.
    """
    directory = job.workdir / "checkpoints"
    latest = [s for s in checkpoint.saved_steps(directory) if s <= step][-job.config.train.keep :]
    first_does(checkpoint.prune, directory, {*latest, *([standing.best.step] if standing.best else [])})


def conclude(job: Job, standing: Standing, wall_s: float, split: str) -> dict[str, Any]:
    """Evaluate the best checkpoint on a split ("valid" where the data lacks it) and write the result.

    Raises:
      RunError: no evaluation is of a model that has reached its targets.
    """
    leader, last = standing.best, standing.last
    if leader is None or last is None:
        raise RunError(f"{job.workdir}: no evaluation reached the target rates; train for more epochs")
    state, _ = checkpoint.restore(job.workdir / "checkpoints", leader.step, true_state(job), job.place)
    params = state.projected()
    name = split if split in job.data.splits and job.data.splits[split].rows else "valid"
    metrics = _evaluate(job, params, name)
    result = {
        **metrics.to_json(),
        "split": name,
        "steps": last.step,
        "best_step": leader.step,
        "valid": {"roc_auc": leader.roc_auc, "log_loss": leader.log_loss},
        **sparsity_report(_whole(job, params), job.labels, targets(job.plan)),
        "notice": job.plan.notice,
        "model": job.config.model.name,
        "config_hash": config_hash(job.config),
        "data_hash": job.data.content_hash,
        "versions": run.versions(),
        "wall_s": wall_s,
    }
    if job.config.train.on_nonfinite == "skip":
        result["skipped_steps"] = sum(row.get("skipped", 0) for row in run.load_metrics(job.workdir))
    first_does(run.write_result, job.workdir, result)
    meet("result")
    return result
