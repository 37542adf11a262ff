"""Numbers that are none: which steps had them, where they are first seen, and that none of them is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.config import override
from deeplight_jax.data.schema import Batch
from deeplight_jax.errors import RunError
from deeplight_jax.mesh import fit
from deeplight_jax.sparsity.algebra import path_of
from deeplight_jax.sparsity.components import Masks
from deeplight_jax.training.job import Job, batches_behind, load_start, placed_step, true_state
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.step import is_usable, loss_of

_TRIED = 10  # steps of a report, all of them without an update, after which skipping is given up


class LossNotFinite(RunError):
    """The loss was not finite; `step` is the first such step."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def check_losses(job: Job, step: int, losses: Sequence[jax.typing.ArrayLike]) -> np.ndarray:
    """Losses of the steps up to `step` as f64[step]; NaN where `train.on_nonfinite=skip` dropped an update.

    Raises:
      LossNotFinite: a loss is not finite and `train.on_nonfinite` is "stop", or there were updates at none of
        the steps.
    """
    values = np.asarray(jax.device_get(list(losses)), np.float64)
    bad = ~np.isfinite(values)
    first = step - len(values) + 1 + int(bad.argmax()) if len(values) else step
    if job.config.train.on_nonfinite == "stop" and bad.any():
        raise LossNotFinite(
            f"the loss is not finite at step {first}; lower optim.learning_rate "
            f"or set train.on_nonfinite=skip ({_kept(job.workdir)})",
            first,
        )
    if len(values) >= _TRIED and bad.all():
        raise LossNotFinite(
            f"the loss or a gradient is not finite at every step from {first} to {step}; "
            f"lower optim.learning_rate ({_kept(job.workdir)})",
            first,
        )
    return np.where(bad, np.nan, values)


def check_state(job: Job, state: TrainState) -> None:
    """Refuse a state that should not be saved, evaluated or reported.

    Raises:
      RunError: a parameter or one of the optimizer's moments is not finite; the first is named.

    Cost:
      One pass over the state.
    """
    held = {"params": state.params, "moments": state.opt_state[0].inner_state}
    flat, _ = jax.tree_util.tree_flatten_with_path(held)
    floats = [(path_of(path), leaf) for path, leaf in flat if jnp.issubdtype(leaf.dtype, jnp.floating)]
    fine = np.asarray(_all_finite([leaf for _, leaf in floats]))
    if not fine.all():
        name = floats[int((~fine).argmax())][0]
        raise RunError(
            f"{name} is not finite after step {int(state.step)}; lower optim.learning_rate "
            f"({_kept(job.workdir)})"
        )


def explain(job: Job, masks: Masks | None, step: int) -> str:
    """Where a loss that was not finite came from, found by going again from the newest checkpoint to `step`.

    Args:
      job: the run.
      masks: that it began with.
      step: at which its loss was not finite.

    Returns:
      The batch, the parameters whose gradient is not finite there, and the largest weight.

    Cost:
      The steps since that checkpoint once more.
    """
    skipping = override(job.config, {"train.on_nonfinite": "skip"})
    guarded = placed_step(job.place, job.model, job.data.schema, job.optimizer, skipping)
    state = load_start(job, masks).state
    first = int(state.step)
    batches = batches_behind(job, first)
    for now in range(first + 1, step + 1):
        batch = next(batches)
        state, loss = guarded(state, batch)
        job.progress("looking for the cause", now - first, step - first)
        if not np.isfinite(loss):
            gradients = _gradients(job, state.replace(step=state.step - 1), batch)
            return f"{_batch_of(job, now)}: {_suspects(gradients, state.params)}"
    return f"{_batch_of(job, step)}; going there again from step {first} did not show it"


def _gradients(job: Job, state: TrainState, batch: Batch) -> Any:
    """The loss's, of a state as the placement holds it."""
    loss, like, place = loss_of(job.model, job.config), true_state(job), job.place

    def gradients(state: TrainState, batch: Batch) -> Any:
        true = fit(state, like)
        return place.pad(jax.grad(loss)(true.params, true, batch))

    held = place.shardings(like) if place.mesh is not None else None
    jitted = place.jit(gradients, (held, place.over_batch), held.params if held else None)
    return jitted(state, place.batch(batch, job.config.data.batch_size))


def _batch_of(job: Job, step: int) -> str:
    epoch, batch = divmod(step - 1, job.plan.epoch_steps)
    return f"step {step} is batch {batch + 1} of {job.plan.epoch_steps} of epoch {epoch + 1}"


def _suspects(gradients: Any, params: Any) -> str:
    """The gradients that are not finite, and the largest weight."""
    flat, _ = jax.tree_util.tree_flatten_with_path(gradients)
    bad = [path_of(path) for path, g in flat if not is_usable(g)]
    weights, _ = jax.tree_util.tree_flatten_with_path(params)
    sizes = [(float(jnp.max(jnp.abs(w))), path_of(path)) for path, w in weights if w.size]
    size, largest = max(sizes)
    more = f" and {len(bad) - 1} more" if bad[1:] else ""
    what = f"the gradient of {bad[0]}{more} is not finite" if bad else "the loss alone is not finite"
    return f"{what}; the largest weight is one of {largest}, {size:.3g}"


def _kept(workdir: Path) -> str:
    return f"the last good checkpoint is kept in {workdir / 'checkpoints'}"


@jax.jit
def _all_finite(leaves: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])
