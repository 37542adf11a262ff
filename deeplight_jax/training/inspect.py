"""Finished or running runs, read back: the projected model or its masks alone, and metrics on any split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from deeplight_jax.config import Config
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.evaluation.accounting import sparsity_report
from deeplight_jax.evaluation.evaluate import Progress, evaluate_split
from deeplight_jax.models import abstract_params, build_model, row_tables
from deeplight_jax.sparsity.algebra import complete
from deeplight_jax.sparsity.components import Labels
from deeplight_jax.sparsity.masks import Masks
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.digests import split_step
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import Plan, targets
from deeplight_jax.training.state import TrainState, abstract_state


class Run(NamedTuple):
    """A trained model as it is reported.

    Attributes:
      config: of the run.
      schema: fields of its training data.
      model: the Linen module.
      params: projected parameters, f32.
      masks: keep-masks, structured as the parameters.
      labels: component codes, structured as the parameters.
      step: updates done.
      plan: how the run was scheduled.
    """

    config: Config
    schema: Schema
    model: nn.Module
    params: Any
    masks: Masks
    labels: Labels
    step: int
    plan: Plan


def load_run(workdir: str | Path) -> Run:
    """The model of a run, RUN or RUN@STEP: by default the best of a finished run, else the newest.

    Raises:
      RunError: no run or no such checkpoint is there, or one of its files is damaged.
    """
    directory, wanted = split_step(workdir)
    config, schema = run.load_config_of(directory), run.load_schema_of(directory)
    step = _choose_step(directory, wanted)
    plan = run.load_plan_of(directory)
    state, _ = checkpoint.restore(directory / "checkpoints", step, state_shapes(config, schema, plan))
    model = build_model(config, schema)
    _, labels = abstract_params(model, schema)
    return Run(config, schema, model, state.projected(), state.masks, labels, step, plan)


def state_shapes(config: Config, schema: Schema, plan: Plan) -> TrainState:
    """Shapes of a run's state, to restore its checkpoints into; of its own config and plan."""
    model = build_model(config, schema)
    _, labels = abstract_params(model, schema)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, schema))
    return abstract_state(model, schema, optimizer)


class RunMasks(NamedTuple):
    """The masks of a trained model, and what they are masks of.

    Attributes:
      config: of the run.
      schema: fields of its training data.
      masks: numpy keep-masks of every prunable leaf, structured as the parameters; all True where the run
        did not prune.
      labels: component codes, structured as the parameters.
      step: updates done.
      plan: how the run was scheduled.
      data: identity of the training data: schema, vocabulary digests, content hash.
    """

    config: Config
    schema: Schema
    masks: Masks
    labels: Labels
    step: int
    plan: Plan
    data: dict[str, Any]


def load_masks(workdir: str | Path) -> RunMasks:
    """The masks of a run, RUN or RUN@STEP, chosen as `load_run` does, without reading its parameters.

    A checkpoint from before checkpoints had a file of masks is read whole.

    Raises:
      RunError: no run or no such checkpoint is there, or its masks are damaged.
    """
    directory, wanted = split_step(workdir)
    config, data = run.load_config_of(directory), run.load_data_of(directory)
    schema = run.load_schema_of(directory)
    step = _choose_step(directory, wanted)
    params, labels = abstract_params(build_model(config, schema), schema)
    found = checkpoint.restore_masks(directory / "checkpoints", step)
    if found is None:
        found = jax.tree.map(np.asarray, load_run(f"{directory}@{step}").masks)
    try:
        masks = complete(found, params, labels)
    except MaskError as error:
        raise RunError(f"{directory}@{step}: {error}") from error
    return RunMasks(config, schema, masks, labels, step, run.load_plan_of(directory), data)


def evaluate(
    workdir: str | Path,
    split: str = "test",
    data: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Metrics and counts of a run's projected model on a split.

    Args:
      workdir: RUN or RUN@STEP.
      split: "train", "valid" or "test".
      data: prepared with the run's vocabulary; by default the run's own data.
      progress: called after each batch.

    Returns:
      Metrics, counts by component, the step evaluated and the data's hash.

    Raises:
      RunError: the run is missing or damaged, or the data was encoded with another vocabulary.
      DataError: the data is missing or damaged.
    """
    found = load_run(workdir)
    directory = data or found.config.data.dir
    rows = open_prepared(directory, verify=found.config.data.verify)
    run.check_fits(run.directory_of(workdir), rows)
    metrics = evaluate_split(
        found.model, found.params, rows.split(split), found.config.eval.batch_size, progress
    )
    report = sparsity_report(found.params, found.labels, targets(found.plan))
    about = {"split": split, "step": found.step, "data_hash": rows.content_hash}
    return {**metrics.to_json(), **about, **report}


def _choose_step(directory: Path, wanted: str) -> int:
    if wanted:
        if not wanted.isdigit():
            raise RunError(f"{directory}@{wanted}: a step is a number")
        return int(wanted)
    if result := run.load_result(directory):
        return int(result["best_step"])
    steps = checkpoint.saved_steps(directory / "checkpoints")
    if not steps:
        raise RunError(f"{directory} holds no checkpoint yet")
    return steps[-1]
