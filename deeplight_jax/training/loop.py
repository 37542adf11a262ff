"""The training loop: batches through the step, an evaluation and checkpoint an epoch, one result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeplight_jax.config import Config
from deeplight_jax.data.ahead import drawn_ahead
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import RunError
from deeplight_jax.sparsity.components import Masks
from deeplight_jax.training import hosts, run
from deeplight_jax.training.checkpoint import saved_steps
from deeplight_jax.training.events import ScalarEvents
from deeplight_jax.training.finite import LossNotFinite, explain
from deeplight_jax.training.job import (
    Job,
    Progress,
    Start,
    batches_behind,
    check_inherited,
    make_job,
    masks_to_start_from,
    start_or_resume,
)
from deeplight_jax.training.record import conclude, evaluate_epoch, forget, report, save
from deeplight_jax.training.standing import Standing
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.step import device_is_apart
from deeplight_jax.training.stopping import Stop, StopAsked, Terminated, held_back

_LOG = logging.getLogger(__name__)
REPORT_STEPS = 100  # the loss is fetched from the device and written this often


def train(
    config: Config,
    workdir: str | Path,
    *,
    data: Prepared | None = None,
    progress: Progress | None = None,
    split: str = "test",
    notice: bool = True,
) -> dict[str, Any]:
    """Train, prune, evaluate; or go on where an interrupted run of the same config stopped.

    Args:
      config: of `load_config`.
      workdir: the run's directory; a finished run there is returned as it is.
      data: an opened data set; by default `config.data.dir` is opened.
      progress: called as `progress(what, done, total)` before the first step, after each, and after each
        evaluated batch.
      split: what the best model is evaluated on at the end; "valid" leaves test unread.
      notice: whether to warn of what the plan had to change; its result says so, too.

    Returns:
      The content of `result.json`: metrics of the projected best model, chosen on the validation split and
      evaluated once on `split`.

    Raises:
      ConfigError: the config cannot be carried out (say, a schedule too short for its targets).
      MaskError: the masks to start from are missing, or of another model or other data.
      DataError: the data is missing or damaged.
      RunError: the directory belongs to another run, another program is at it, a checkpoint is damaged,
        or the loss diverged.
    """
    workdir = Path(workdir)
    data = data or open_prepared(config.data.dir, verify=config.data.verify)
    if run.check_same(workdir, config, data) and (finished := run.load_result(workdir)):
        return finished
    job = make_job(config, workdir, data, progress or (lambda *_: None))
    masks = masks_to_start_from(job)
    if not saved_steps(workdir / "checkpoints"):
        check_inherited(job)
    with hosts.first_holds(run.owned(workdir)), _writing(workdir), hosts.lost_told():
        hosts.first_does(run.start, workdir, config, data)
        if job.plan.notice and notice and hosts.is_first():
            _LOG.warning("%s", job.plan.notice)
        hosts.meet("started")
        return run.load_result(workdir) or _train(job, masks, split)


def check(config: Config, workdir: str | Path, data: Prepared) -> None:
    """Whether `train` could begin: what can be known of a run without any training.

    Raises:
      ConfigError: the config cannot be carried out on the data.
      RunError: the directory belongs to another run.
    """
    run.check_same(Path(workdir), config, data)
    make_job(config, Path(workdir), data, lambda *_: None)


@contextmanager
def _writing(workdir: Path) -> Iterator[None]:
    """A disk that refuses metrics, events or the result, told as what a user can do about it."""
    try:
        yield
    except OSError as error:
        place = error.filename or workdir
        raise RunError(
            f"cannot write to {place} ({error.strerror}); free disk space or name another --workdir"
        ) from error


def _train(job: Job, masks: Masks | None, split: str) -> dict[str, Any]:
    """The run from its newest checkpoint, or from its start, to its result."""
    began = time.monotonic()
    start = start_or_resume(job, masks)
    directory = job.workdir / "tensorboard" if hosts.is_first() else None
    with ScalarEvents(directory, int(start.state.step) + 1) as events:
        try:
            standing, wall_s = _train_epochs(job, start, events, began - start.wall_s)
        except LossNotFinite as error:
            error.__traceback__ = None  # its frames hold the state, whose memory going there again needs
            raise RunError(f"{error}; {explain(job, masks, error.step)}") from error
    return conclude(job, standing, wall_s, split)


def _train_epochs(job: Job, start: Start, events: ScalarEvents, began: float) -> tuple[Standing, float]:
    """Steps to the planned end, or until patience runs out; returns where it stands and seconds spent.

    A signal to end is held back until the step that it arrives in is saved; an evaluation is not waited for.
    """
    plan, settings = job.plan, job.config.train
    state, standing = start.state, start.standing
    losses: list[Any] = [*start.losses]
    first = int(state.step)
    with drawn_ahead(batches_behind(job, first), ahead=device_is_apart()) as batches, held_back() as stop:
        job.progress("training", first, plan.total_steps)  # the first step compiles
        if start.owes_evaluation:
            standing = _evaluated(job, state, standing, first, events, stop)
        for step in () if stop.signal and not hosts.are_several() else range(first + 1, plan.total_steps + 1):
            epoch_begins = (step - 1) % plan.epoch_steps == 0
            if epoch_begins and standing.should_stop(settings.patience):
                break
            state, loss = job.step(state, next(batches), step)
            losses.append(loss)
            epoch_ends = step % plan.epoch_steps == 0
            saves = epoch_ends or (settings.checkpoint_steps and step % settings.checkpoint_steps == 0)
            if saves or step % REPORT_STEPS == 0:
                report(job, state.churn, step, losses, events)
                losses = []
            if epoch_ends:
                standing = _evaluated(job, state, standing, step, events, stop)
            ends = hosts.any_asked(stop.signal is not None, step)
            if saves or ends:
                save(job, state, standing, time.monotonic() - began, losses)
                forget(job, standing, step)
            if ends:
                _announce(job, step, stop)
                if stop.signal is None:
                    raise Terminated
                break
            job.progress("training", step, plan.total_steps)
    return standing, time.monotonic() - began


def _evaluated(
    job: Job, state: TrainState, standing: Standing, step: int, events: ScalarEvents, stop: Stop
) -> Standing:
    """The standing with this evaluation in it, or as it is if a signal has cut it short."""
    try:
        watched = job if hosts.are_several() else job._replace(progress=stop.watch(job.progress))
        found = evaluate_epoch(watched, state, step, events)
        return standing.after(found, job.config.train.monitor)
    except StopAsked:
        return standing


def _announce(job: Job, step: int, stop: Stop) -> None:
    signal = stop.signal.name if stop.signal else "another host was asked to end"
    of = f"step {step} of {job.plan.total_steps}"
    _LOG.warning("%s: saved %s; the same command goes on from there in %s", signal, of, job.workdir)
