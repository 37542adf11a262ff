"""What a run is made of before its first step, and the state that it starts or goes on from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from deeplight_jax.config import Config, shuffle_seed
from deeplight_jax.data.loader import train_batches
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.data.schema import Batch
from deeplight_jax.errors import RunError
from deeplight_jax.evaluation.evaluate import Progress as Progress
from deeplight_jax.models import abstract_params, build_model, row_tables
from deeplight_jax.sparsity.components import Labels, Masks
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.history import Evaluation
from deeplight_jax.training.merging import load_initial_masks
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import Plan, check_prunable, make_plan
from deeplight_jax.training.state import TrainState, abstract_state, init_state
from deeplight_jax.training.step import TrainStep, make_train_step


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


def make_job(config: Config, workdir: Path, data: Prepared, progress: Progress) -> Job:
    """The job of a config; nothing is trained, compiled or written yet.

    Raises:
      ConfigError: the config cannot be carried out on the data.
    """
    plan = plan_of(config, data)
    data.split("valid")  # the first evaluation needs it: better refused now than then
    model = build_model(config, data.schema)
    _, labels = abstract_params(model, data.schema)
    check_prunable(plan, labels, config.model.name)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, data.schema))
    step = make_train_step(model, optimizer, config)
    return Job(config, workdir, data, plan, model, labels, step, optimizer, progress)


def plan_of(config: Config, data: Prepared) -> Plan:
    """The plan of a config over a data set's training rows; see `make_plan`."""
    return make_plan(config, data.split("train").rows, [f.size for f in data.schema.fields])


def batches_behind(job: Job, step: int) -> Iterator[Batch]:
    """The run's training batches from the one behind a step on, without end."""
    split, config = job.data.split("train"), job.config
    return train_batches(split, config.data.batch_size, shuffle_seed(config), first_step=step)


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
      history: evaluations so far.
      wall_s: seconds spent so far.
      losses: of steps not yet reported; NaN of skipped ones.
      owes_evaluation: an epoch ended with `state`, but the run was stopped before it was evaluated.
      resumed: whether it is from this run's own checkpoint.
    """

    state: TrainState
    history: list[Evaluation]
    wall_s: float
    losses: tuple[float, ...] = ()
    owes_evaluation: bool = False
    resumed: bool = False


def start_or_resume(job: Job, masks: Masks | None, step: int | None = None) -> Start:
    """`load_start`, with what an interrupted run reported behind it dropped from its metrics."""
    start = load_start(job, masks, step)
    last = int(start.state.step) if start.resumed else -1
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
    like = abstract_state(job.model, job.data.schema, job.optimizer)
    if step is None:
        step = max(checkpoint.saved_steps(directory), default=0)
    if step:
        state, about = checkpoint.restore(directory, step, like)
        losses = tuple(math.nan if x is None else x for x in about.get("losses", ()))
        history, owes = [Evaluation(**e) for e in about["history"]], about.get("owes_evaluation", False)
        return Start(state, history, about["wall_s"], losses, owes, resumed=True)
    if job.config.train.init_from:
        state = _inherit(job)
    else:
        state = init_state(job.model, job.data.schema, job.optimizer, job.config.seed)
    return Start(state if masks is None else state.held_to(masks), [], 0.0)


def check_inherited(config: Config, data: Prepared) -> None:
    """Whether `train.init_from` names a checkpoint of a run over such data, if it names any.

    Raises:
      RunError: it does not.
    """
    if config.train.init_from:
        _inherited(config, data)


def _inherited(config: Config, data: Prepared) -> tuple[Path, int]:
    """The run and the step that `train.init_from` names."""
    name, _, step = config.train.init_from.partition("@")
    source = Path(name)
    run.check_fits(source, data)
    steps = checkpoint.saved_steps(source / "checkpoints")
    if not steps or (step and not step.isdigit()):
        raise RunError(f"train.init_from={config.train.init_from}: no such checkpoint; write RUN or RUN@STEP")
    return source, int(step) if step else steps[-1]


def _inherit(job: Job) -> TrainState:
    """Another run's weights, Adam moments and step, under this run's schedule and fresh masks."""
    source, step = _inherited(job.config, job.data)
    parent = make_job(run.load_config_of(source), source, job.data, job.progress)
    like = abstract_state(parent.model, job.data.schema, parent.optimizer)
    found, _ = checkpoint.restore(source / "checkpoints", step, like)
    fresh = init_state(job.model, job.data.schema, job.optimizer, job.config.seed)
    if jax.tree.structure(fresh.params) != jax.tree.structure(found.params):
        raise RunError(
            f"train.init_from: {source} holds another model than model.name={job.config.model.name}"
        )
    moments = found.opt_state[0]
    if _shapes(moments.inner_state) != _shapes(fresh.opt_state[0].inner_state):
        raise RunError(f"train.init_from: {source} has the moments of another optimizer than "
                       f"optim.embedding={job.config.optim.embedding}")  # fmt: skip
    adam = fresh.opt_state[0]._replace(count=moments.count, inner_state=moments.inner_state)
    return fresh.replace(step=found.step, params=found.params, opt_state=(adam, fresh.opt_state[-1]))


def _shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)]
