"""A run's model before it was pruned, as far as it was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax

from deeplight_jax.errors import DeeplightError
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.digests import split_step
from deeplight_jax.training.inspect import Run, load_run


class Before(NamedTuple):
    """Parameters from before pruning, structured as the run's, and where they are from."""

    params: Any
    source: str


def params_before(found: Run, workdir: str | Path, dense: str | Path | None = None) -> Before | None:
    """The newest model that no pruning event had touched yet.

    That is a checkpoint of the run's own warm-up, else the run it was started from (`train.init_from`), else
    `dense`, a run of the same config without targets.

    Args:
      found: the run, loaded.
      workdir: RUN or RUN@STEP that it was loaded from.
      dense: another run to fall back on.

    Returns:
      None if none of these was kept, is whole and has the model's shapes.
    """
    directory = run.directory_of(workdir)
    own = [s for s in checkpoint.saved_steps(directory / "checkpoints") if s <= found.plan.warmup_steps]
    candidates = [(f"{directory}@{step}", f"its warm-up, step {step}") for step in reversed(own)]
    if start := found.config.train.init_from:
        candidates.append((_newest(start), f"the run it started from, {Path(start).name}"))
    if dense:
        candidates.append((str(dense), f"its dense twin, {Path(dense).name}"))
    for source, name in candidates:
        try:
            params = load_run(source).params
        except DeeplightError:
            continue
        if _shapes(params) == _shapes(found.params):
            return Before(params, name)
    return None


def _newest(start: str) -> str:
    """RUN@STEP as `train.init_from` means it: the newest step, not the best, where none is named."""
    directory, step = split_step(start)
    steps = [] if step else checkpoint.saved_steps(directory / "checkpoints")
    return f"{directory}@{steps[-1]}" if steps else start


def _shapes(params: Any) -> Any:
    return jax.tree.map(lambda p: p.shape, params)
