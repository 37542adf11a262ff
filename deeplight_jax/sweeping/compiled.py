"""Many members in one compiled program: they share batches, a step and its compilation.

Members whose configs differ in nothing but what is traced form a group; groups larger than memory run in
waves. What a member writes is what a run of its own would write, and it resumes as one. A signal to end is
held back until the step that it arrives in is saved.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deeplight_jax.data.ahead import drawn_ahead
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.evaluation.evaluate import metrics_of, predict_each
from deeplight_jax.models import row_tables
from deeplight_jax.sparsity.churn import of_components
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sweeping import ledger
from deeplight_jax.sweeping.launch import Progress, fail
from deeplight_jax.sweeping.members import Member, program_key
from deeplight_jax.sweeping.stacking import (
    Place,
    fastest_layout,
    is_cpu,
    known_layout,
    make_program,
    narrow,
    nbytes,
    plan_place,
    stack,
    take,
    take_part,
    widen,
)
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.events import ScalarEvents
from deeplight_jax.training.job import (
    Job,
    batches_behind,
    begins_at,
    make_job,
    masks_to_start_from,
    plan_of,
    start_or_resume,
)
from deeplight_jax.training.loop import REPORT_STEPS
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import Plan
from deeplight_jax.training.record import conclude, forget, record_evaluation, report, save
from deeplight_jax.training.standing import Standing
from deeplight_jax.training.state import TrainState, abstract_state
from deeplight_jax.training.step import (
    NumberedStep,
    TrainStep,
    device_is_apart,
    events_are_apart,
    step_by_number,
    train_step_of,
)
from deeplight_jax.training.stopping import Stop, StopAsked, held_back

_LOG = logging.getLogger(__name__)
_MEASURE_STEPS = 2_000  # shorter groups, and all on a CPU, take the layout that is known to be fast


@dataclass
class Lane:
    """One member's place in a stack, and what it has written so far."""

    member: Member
    job: Job
    directory: Path
    events: ScalarEvents | None = None
    standing: Standing = field(default_factory=Standing)
    losses: tuple[float, ...] = ()  # of steps before this program's, not yet reported
    owes_evaluation: bool = False
    spent_s: float = 0.0  # by itself: its share of the wave's time
    alive: bool = True

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What fails inside ends this lane alone."""
        try:
            yield
        except Exception as error:  # whatever stops a member must not stop the others
            self.alive = False
            fail(self.member, self.directory, error)


def run_compiled(
    members: Sequence[Member],
    everyone: Sequence[Member],
    directory: Path,
    data: Prepared,
    layout: int,
    per_device: int,
    progress: Progress,
) -> None:
    """Run members, group by group, one program a group.

    Args:
      members: without a result; their warm-ups are done.
      everyone: all of the sweep's members.
      directory: of the sweep.
      data: what they train on.
      layout: members computed at once on a device; 0: the fastest known, or measured where it pays.
      per_device: most members on a device; 0: what its memory holds.
      progress: called as `progress(what, done, total)`.
    """
    groups: dict[str, list[Lane]] = {}
    for member in members:
        job = make_job(member.config, ledger.place(directory, member.name), data, progress)
        lane = Lane(member, job, directory)
        groups.setdefault(program_key(member.config), []).append(lane)
    plans: dict[str, list[Plan]] = {}
    for member in everyone:
        plans.setdefault(program_key(member.config), []).append(plan_of(member.config, data))
    split = [(*part, plans[key]) for key, lanes in groups.items() for part in _by_resume_step(lanes)]
    for number, (step, lanes, whole) in enumerate(split):
        progress("groups", number, len(split))
        _run_group(lanes, step, whole, layout, per_device, progress)


def _by_resume_step(lanes: Sequence[Lane]) -> list[tuple[int, list[Lane]]]:
    """Lanes by the checkpoint they go on from: the latest that most of them have, then of the rest likewise.

    A kill in the middle of a save leaves some a save ahead, which go back; a lane that failed stays behind.
    Those without any (0) go by the step that `train.init_from` begins at: a stack has one.
    """
    saved = {i: {*checkpoint.saved_steps(x.job.workdir / "checkpoints")} for i, x in enumerate(lanes)}
    parts: list[tuple[int, list[Lane]]] = []
    while counts := Counter(step for steps in saved.values() for step in steps):
        latest = max(counts, key=lambda step: (counts[step], step))
        found = [i for i, steps in saved.items() if latest in steps]
        parts.append((latest, [lanes[i] for i in found]))
        saved = {i: steps for i, steps in saved.items() if i not in found}
    begins: dict[int, list[Lane]] = {}
    for lane in (lanes[i] for i in saved):
        with lane.guarded():
            begins.setdefault(begins_at(lane.job), []).append(lane)
    return [*parts, *((0, part) for part in begins.values())]


def _run_group(
    lanes: Sequence[Lane], step: int, whole: Sequence[Plan], layout: int, per_device: int, progress: Progress
) -> None:
    """Waves of the lanes that are left of a whole group, given by its plans; targets live in the states."""
    by_code = {c.code: c for plan in whole for c in plan.components}
    components = tuple(by_code[code] for code in sorted(by_code))
    first = lanes[0].job
    plan, tables = first.plan._replace(components=components), row_tables(first.model, first.data.schema)
    optimizer = build_optimizer(first.config, first.labels, plan, tables)
    step_of = partial(train_step_of, first.model, optimizer, first.config)
    member_bytes = nbytes(abstract_state(first.model, first.data.schema, optimizer))
    place = plan_place(len(lanes), member_bytes, per_device, len(whole) if layout in (0, 1) else 0)
    program: NumberedStep | None = None
    for start in range(0, len(lanes), place.size):
        wave = lanes[start : start + place.size]
        states = _begin(wave, step, components)
        wave = [lane for lane in wave if lane.alive]
        if not wave:
            continue
        stacked = stack(states, place)
        del states
        if program is None:
            usual = step_of(False if events_are_apart(plan) else None)
            at_once = layout or _layout(usual, place, stacked, wave[0].job)
            program = step_by_number(
                lambda event, n=at_once: make_program(step_of(event), place, n), plan, first.config
            )
            _LOG.info("%d members, %d a device, %d at once", len(lanes), place.per_device, at_once)
        _run_wave(wave, stacked, program, place, progress)


def _layout(step: TrainStep, place: Place, stacked: TrainState, job: Job) -> int:
    if is_cpu(place) or job.plan.total_steps - int(stacked.step) < _MEASURE_STEPS:
        return known_layout(place)
    return fastest_layout(step, place, stacked, next(batches_behind(job, int(stacked.step))))


def _begin(lanes: Sequence[Lane], step: int, components: Sequence[Component]) -> list[TrainState]:
    """The states that lanes start or go on from; a lane that cannot is recorded as failed."""
    states = []
    for lane in lanes:
        with lane.guarded():
            job = lane.job
            masks = masks_to_start_from(job)
            run.start(job.workdir, job.config, job.data)
            start = start_or_resume(job, masks, step)
            lane.standing, lane.spent_s = start.standing, start.wall_s
            lane.losses, lane.owes_evaluation = start.losses, start.owes_evaluation
            states.append(widen(start.state, job.labels, components))
    return states


def _run_wave(
    lanes: Sequence[Lane], stacked: TrainState, program: NumberedStep, place: Place, progress: Progress
) -> None:
    """A wave from its state to its members' results; what stops the program itself fails all of them."""
    first = int(stacked.step)
    with ExitStack() as stack_:
        beat = stack_.enter_context(ledger.beating(lanes[0].directory, [x.member.name for x in lanes]))
        for lane in lanes:
            stack_.enter_context(suppress(OSError))  # of a closing: what a lane reported is flushed
            with lane.guarded():
                events = ScalarEvents(lane.job.workdir / "tensorboard", first + 1)
                lane.events = stack_.enter_context(events)

        def advance(step: int, total: int) -> None:
            beat(step, total)
            progress("training", step, total)

        progress("training", first, lanes[0].job.plan.total_steps)  # the first step compiles
        try:
            _train(lanes, stacked, program, place, advance)
        except Exception as error:
            for lane in [x for x in lanes if x.alive]:
                lane.alive = False
                fail(lane.member, lane.directory, error)


def _train(
    lanes: Sequence[Lane], stacked: TrainState, program: NumberedStep, place: Place, advance: Any
) -> None:
    job = lanes[0].job
    plan, settings = job.plan, job.config.train
    first, losses, clock = int(stacked.step), [], _Clock(lanes)
    ahead = device_is_apart()
    with drawn_ahead(batches_behind(job, first), ahead=ahead) as batches, held_back() as stop:
        _evaluate(lanes, stacked, place, first, stop, owing=True)
        for step in () if stop.signal else range(first + 1, plan.total_steps + 1):
            if (step - 1) % plan.epoch_steps == 0:
                _stop_the_patient(lanes, clock)
            if not any(lane.alive for lane in lanes):
                return
            stacked, loss = program(stacked, next(batches), step)
            losses.append(loss)
            epoch_ends = step % plan.epoch_steps == 0
            saves = epoch_ends or (settings.checkpoint_steps and step % settings.checkpoint_steps == 0)
            if saves or step % REPORT_STEPS == 0:
                _report(lanes, stacked, place, step, losses)
                losses = []
            if epoch_ends:
                _evaluate(lanes, stacked, place, step, stop)
            if saves or stop.signal:
                _save(lanes, stacked, place, clock, losses)
            if stop.signal:
                _LOG.warning("%s: saved step %d of %d of %d members; the same command goes on from there",
                             stop.signal.name, step, plan.total_steps, len(lanes))  # fmt: skip
                break
            advance(step, plan.total_steps)
    for lane in lanes:
        _conclude(lane, clock)


class _Clock:
    """Seconds of a wave, shared evenly by its members, on top of what each had spent before."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._began, self._members = time.monotonic(), len(lanes)

    def spent_s(self, lane: Lane) -> float:
        return lane.spent_s + (time.monotonic() - self._began) / self._members


def _stop_the_patient(lanes: Sequence[Lane], clock: _Clock) -> None:
    """Lanes in which nothing got better for long enough are done."""
    for lane in lanes:
        if lane.alive and lane.standing.should_stop(lane.job.config.train.patience):
            _conclude(lane, clock)


def _conclude(lane: Lane, clock: _Clock) -> None:
    if lane.alive:
        with lane.guarded():
            conclude(lane.job, lane.standing, clock.spent_s(lane), "valid")
        lane.alive = False


def _report(
    lanes: Sequence[Lane], stacked: TrainState, place: Place, step: int, losses: Sequence[jax.Array]
) -> None:
    """Each lane's losses f32[step], fetched from the device at once, and its masks' churn."""
    values = np.stack(jax.device_get(losses), axis=1)
    for i, lane in enumerate(lanes):  # behind the lanes comes padding
        if lane.alive and lane.events:
            with lane.guarded():
                churn = of_components(take_part(stacked.churn, i, place), lane.job.plan.components)
                report(lane.job, churn, step, [*lane.losses, *values[i]], lane.events)
                lane.losses = ()


def _evaluate(
    lanes: Sequence[Lane], stacked: TrainState, place: Place, step: int, stop: Stop, *, owing: bool = False
) -> None:
    """Every living lane's projected model on the validation split, whose batches are read once for all.

    With `owing` those alone that were stopped before they could be evaluated. A signal cuts it short for all.
    """
    living = [(i, lane) for i, lane in enumerate(lanes) if lane.alive and (not owing or lane.owes_evaluation)]
    if not living:
        return
    job = living[0][1].job
    split = job.data.split("valid")
    projected = [take(stacked, i, place).projected() for i, _ in living]
    try:
        watched = stop.watch(job.progress)
        logits = predict_each(job.model, projected, split, job.config.eval.batch_size, watched)
    except StopAsked:
        return
    for (i, lane), params, own in zip(living, projected, logits, strict=True):
        with lane.guarded():
            assert lane.events
            churn, metrics = take_part(stacked.churn, i, place), metrics_of(own, split)
            found = record_evaluation(lane.job, params, churn, metrics, step, lane.events)
            lane.standing = lane.standing.after(found, lane.job.config.train.monitor)


def _save(
    lanes: Sequence[Lane], stacked: TrainState, place: Place, clock: _Clock, losses: Sequence[jax.Array]
) -> None:
    """Checkpoints of all lanes, and only then older ones dropped: a kill leaves a step that all have.

    With the losses f32[step] not yet reported.
    """
    pending = np.stack(jax.device_get(losses), axis=1) if losses else np.empty((len(lanes), 0), np.float32)
    for i, lane in enumerate(lanes):
        if lane.alive:
            with lane.guarded():
                state = take(stacked, i, place)
                own = narrow(state, lane.job.labels, lane.job.plan.components)
                save(lane.job, own, lane.standing, clock.spent_s(lane), [*lane.losses, *pending[i]])
    for lane in lanes:
        if lane.alive:
            with lane.guarded():
                forget(lane.job, lane.standing, int(stacked.step))
