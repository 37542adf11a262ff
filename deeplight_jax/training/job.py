"""What a run is made of before its first step, and the state that it starts or goes on from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from deeplight_jax.config import Config, shuffle_seed
from deeplight_jax.data.loader import train_batches
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.data.schema import Batch, Schema
from deeplight_jax.errors import RunError
from deeplight_jax.evaluation.evaluate import Progress as Progress
from deeplight_jax.mesh import Placement, fit
from deeplight_jax.mesh import place as make_placement
from deeplight_jax.models import abstract_params, build_model, row_tables
from deeplight_jax.sparsity.algebra import leaves_by_path
from deeplight_jax.sparsity.components import Labels, Masks
from deeplight_jax.training import checkpoint, hosts, run
from deeplight_jax.training.digests import split_step
from deeplight_jax.training.inspect import state_shapes
from deeplight_jax.training.memory import keep_freed_memory
from deeplight_jax.training.merging import load_initial_masks
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import Plan, check_prunable, make_plan
from deeplight_jax.training.standing import Standing, read_standing
from deeplight_jax.training.state import TrainState, abstract_state, init_state
from deeplight_jax.training.step import (
    NumberedStep,
    TrainStep,
    make_train_step,
    step_by_number,
    train_step_of,
)


class Job(NamedTuple):
    """What a run works with; nothing in it changes while it trains."""

    config: Config
    workdir: Path
    data: Prepared
    plan: Plan
    model: nn.Module
    labels: Labels
    step: NumberedStep
    optimizer: Any
    progress: Progress
    place: Placement


def make_job(config: Config, workdir: Path, data: Prepared, progress: Progress) -> Job:
    """The job of a config; nothing is trained, compiled or written yet.

    Raises:
      ConfigError: the config cannot be carried out on the data.
    """
    keep_freed_memory()  # before JAX starts its threads
    model = build_model(config, data.schema)
    plan = plan_of(config, data)
    data.split("valid")  # the first evaluation needs it: better refused now than then
    _, labels = abstract_params(model, data.schema)
    check_prunable(plan, labels, config.model.name)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, data.schema))
    batch_size = config.data.batch_size
    place = make_placement(config.mesh.data, config.mesh.table, data.schema.num_rows, batch_size)
    step = numbered_step(place, model, data.schema, optimizer, config, plan)
    return Job(config, workdir, data, plan, model, labels, step, optimizer, progress, place)


def numbered_step(
    place: Placement, model: nn.Module, schema: Schema, optimizer: Any, config: Config, plan: Plan
) -> NumberedStep:
    """`step_by_number` of the programs over a placement's devices."""
    return step_by_number(partial(placed_step, place, model, schema, optimizer, config), plan, config)


class PlacedStep(NamedTuple):
    """A training step on a mesh: `step(state, the host's part of a batch)`.

    Attributes:
      program: jitted, `(state, batch) -> (state, loss)` of arrays on the mesh.
      place: where they are.
      batch_size: rows of a whole batch.
    """

    program: Any
    place: Placement
    batch_size: int

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        return self.program(state, self.place.batch(batch, self.batch_size))


def placed_step(
    place: Placement,
    model: nn.Module,
    schema: Schema,
    optimizer: Any,
    config: Config,
    event: bool | None = None,
) -> TrainStep:
    """The jitted training step over a placement's devices, of states held as it holds them; donates them."""
    if place.mesh is None:
        return make_train_step(model, optimizer, config, event)
    like, step = abstract_state(model, schema, optimizer), train_step_of(model, optimizer, config, event)

    def padded_step(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        state, loss = step(fit(state, like), batch)
        return place.pad(state), loss

    inputs = (place.shardings(like), place.over_batch)
    program = place.jit(padded_step, inputs, (inputs[0], place.everywhere), donate_argnums=0)
    return PlacedStep(program, place, config.data.batch_size)


def fresh_state(job: Job) -> TrainState:
    """A state from the run's seed, made where it is held."""
    if job.place.mesh is None:
        return init_state(job.model, job.data.schema, job.optimizer, job.config.seed)
    seed = job.config.seed

    def init() -> TrainState:
        return job.place.pad(init_state(job.model, job.data.schema, job.optimizer, seed))

    return jax.jit(init, out_shardings=job.place.shardings(true_state(job)))()


def true_state(job: Job) -> TrainState:
    """Shapes of the run's state, without what a placement puts behind them."""
    return abstract_state(job.model, job.data.schema, job.optimizer)


def plan_of(config: Config, data: Prepared) -> Plan:
    """The plan of a config over a data set's training rows; see `make_plan`."""
    return make_plan(config, data.split("train").rows, [f.size for f in data.schema.fields])


def batches_behind(job: Job, step: int) -> Iterator[Batch]:
    """The run's training batches from the one behind a step on, without end."""
    split, config = job.data.split("train"), job.config
    size = config.data.batch_size
    return train_batches(split, size, shuffle_seed(config), first_step=step, part=job.place.rows_here(size))


def masks_to_start_from(job: Job) -> Masks | None:
    """Those of `sparsity.init_masks`; None if there are none, or the run has begun or ended already."""
    file = job.config.sparsity.init_masks
    if not file or checkpoint.saved_steps(job.workdir / "checkpoints") or run.load_result(job.workdir):
        return None
    return load_initial_masks(file, job.config.model.name, job.model, job.data)


class Start(NamedTuple):
    """Where a run starts or goes on.

    Attributes:
      state: of the last step done.
      standing: after the evaluations so far.
      wall_s: seconds spent so far.
      losses: of steps not yet reported; NaN of skipped ones.
      owes_evaluation: an epoch ended with `state`, but the run was stopped before it was evaluated.
      resumed: whether it is from this run's own checkpoint.
    """

    state: TrainState
    standing: Standing
    wall_s: float
    losses: tuple[float, ...] = ()
    owes_evaluation: bool = False
    resumed: bool = False


def start_or_resume(job: Job, masks: Masks | None, step: int | None = None) -> Start:
    """`load_start`; what an interrupted run reported behind it, or left half deleted, is dropped."""
    start = load_start(job, masks, step)
    last = int(start.state.step) if start.resumed else -1
    if hosts.is_first():
        checkpoint.drop_unfinished(job.workdir / "checkpoints")
        run.rewind_metrics(job.workdir, last, evaluated=not start.owes_evaluation)
    return start


def load_start(job: Job, masks: Masks | None, step: int | None = None) -> Start:
    """Where to go on: from a checkpoint, `init_from`, or scratch.

    Args:
      job: the run.
      masks: to begin with; a checkpoint has its own.
      step: of the checkpoint; 0 to begin, None for the newest or, if there is none, to begin.
    """
    directory = job.workdir / "checkpoints"
    if step is None:
        step = hosts.same_on_all(max(checkpoint.saved_steps(directory), default=0), str(directory))
    if step:
        state, about = checkpoint.restore(directory, step, true_state(job), job.place)
        losses = tuple(math.nan if x is None else x for x in about.get("losses", ()))
        standing, owes = read_standing(about, job.config.train.monitor), about.get("owes_evaluation", False)
        return Start(state, standing, about["wall_s"], losses, owes, resumed=True)
    state = _inherit(job) if job.config.train.init_from else fresh_state(job)
    return Start(state if masks is None else state.held_to(job.place.put(masks)), Standing(), 0.0)


def begins_at(job: Job) -> int:
    """Step of the state that the run begins with: 0, or the one that `train.init_from` names.

    Raises:
      RunError: it names no checkpoint of a run over such data.
    """
    return _source(job)[1] if job.config.train.init_from else 0


def check_inherited(job: Job) -> None:
    """Whether `train.init_from` names a checkpoint of such a model over such data, if it names any.

    Raises:
      RunError: it does not.
    """
    if job.config.train.init_from:
        _inherited(job)


def _source(job: Job) -> tuple[Path, int]:
    """The run and the step that `train.init_from` names."""
    start = job.config.train.init_from
    source, step = split_step(start)
    run.check_fits(source, job.data)
    steps = checkpoint.saved_steps(source / "checkpoints")
    if not steps or (step and step not in map(str, steps)):
        has = f"it has {', '.join(map(str, steps)) or 'none'}"
        raise RunError(f"train.init_from={start}: no such checkpoint ({has}); write RUN or RUN@STEP")
    return source, int(step) if step else steps[-1]


def _inherited(job: Job) -> tuple[Path, int, TrainState]:
    """`_source`, and the shapes of the state there, which must be of this run's model and optimizer."""
    source, step = _source(job)
    config, own = run.load_config_of(source), true_state(job)
    like = state_shapes(config, job.data.schema, run.load_plan_of(source))
    if differs := _difference(like.params, own.params):
        raise RunError(f"train.init_from: {source} holds another model ({differs})")
    if _shapes(like.opt_state[0].inner_state) != _shapes(own.opt_state[0].inner_state):
        raise RunError(f"train.init_from: {source} has the moments of another optimizer than "
                       f"optim.embedding={job.config.optim.embedding}")  # fmt: skip
    return source, step, like


def _inherit(job: Job) -> TrainState:
    """Another run's weights, Adam moments and step, under this run's schedule and fresh masks."""
    source, step, like = _inherited(job)
    found, _ = checkpoint.restore(source / "checkpoints", step, like, job.place)
    fresh, moments = fresh_state(job), found.opt_state[0]
    adam = fresh.opt_state[0]._replace(count=moments.count, inner_state=moments.inner_state)
    return fresh.replace(step=found.step, params=found.params, opt_state=(adam, fresh.opt_state[-1]))


def _difference(theirs: Any, ours: Any) -> str:
    """The first parameter whose shape differs, or that one of two models lacks; "" if there is none."""
    there, here = ({p: x.shape for p, x in leaves_by_path(tree).items()} for tree in (theirs, ours))
    for path in here | there:
        have, want = (shapes.get(path, "missing") for shapes in (there, here))
        if have != want:
            return f"{path} is {have} there and {want} here"
    return ""


def _shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)]
