"""Algorithm 1 as an optax transform: put it last in the chain.

Cost: an event is some 10 counting passes over each component; other steps add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deeplight_jax.sparsity.algebra import intersect
from deeplight_jax.sparsity.branch import change_if
from deeplight_jax.sparsity.components import Component, Labels
from deeplight_jax.sparsity.masks import Masks, apply_masks, full_masks, map_masked, select_masks
from deeplight_jax.sparsity.schedule import damped


class ProjectionState(NamedTuple):
    """Owner of the masks, and of the schedule's traced settings.

    Attributes:
      masks: chosen at the last event; before the first all True, or what a caller put there to start from.
      targets: f32[] by component code.
      damping: f32[], D of the schedule.
      damping_steps: f32[], U of the schedule.
    """

    masks: Masks
    targets: dict[str, jax.Array]
    damping: jax.Array
    damping_steps: jax.Array


def project_onto_masks(
    labels: Labels,
    components: Sequence[Component],
    *,
    warmup_steps: int,
    interval_steps: int = 10,
    epoch_steps: int = 0,
    damping: float = 0.99,
    damping_steps: float = 100.0,
    regrow: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Prunes the smallest magnitudes of each component by the damped schedule (paper, Algorithm 1).

    At an event the parameters as they will be after this update are ranked, and updates rewritten so that
    pruned weights land on zero: `where(keep, u, -p)`. Between events updates pass unchanged.

    Args:
      labels: pytree of component codes, structured as the parameters.
      components: what to prune, with targets.
      warmup_steps: steps before k = 0.
      interval_steps: an event whenever k > 0 is a multiple of this.
      epoch_steps: also an event at every multiple of this step behind the warm-up; 0 for none.
      damping: D of s = S(1 - D^(k/U)); traced, as targets and U are.
      damping_steps: U in steps.
      regrow: pruned weights may grow back between events and be judged again; else they stay at zero.

    Returns:
      A transform whose `update(updates, state, params, *, step, apply=False)` takes the 1-based number of
      this update; a `step` that is not batched keeps the event a branch under `jax.vmap`. With `apply` it
      returns the parameters after the update in place of updates, which spares passes over large tables.
    """

    def init(params: Any) -> ProjectionState:
        return ProjectionState(
            masks=full_masks(params, labels, components),
            targets={c.code: jnp.float32(c.target) for c in components},
            damping=jnp.float32(damping),
            damping_steps=jnp.float32(damping_steps),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        step: jax.typing.ArrayLike,
        apply: bool = False,
        **_: Any,
    ) -> tuple[Any, ProjectionState]:
        if params is None:
            raise ValueError("project_onto_masks needs params: call update(updates, state, params, step=...)")
        k = jnp.asarray(step, jnp.int32) - warmup_steps

        def hold(moved: Any, masks: Masks) -> Any:
            return apply_masks(moved, masks) if apply else _hold(moved, masks, params)

        def project(moved: Any, masks: Masks) -> tuple[Any, Masks]:
            after = moved if apply else optax.apply_updates(params, moved)
            chosen = _select(after, k, state, labels, components)
            masks = chosen if regrow else intersect(masks, chosen)  # given masks may be ahead of the rate
            return hold(moved, masks), masks

        event = _is_event(k, warmup_steps, interval_steps, epoch_steps)
        moved = optax.apply_updates(params, updates) if apply else updates
        moved, masks = change_if(event, project, moved if regrow else hold(moved, state.masks), state.masks)
        return moved, state._replace(masks=masks)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _select(
    params: Any, k: jax.Array, state: ProjectionState, labels: Labels, components: Sequence[Component]
) -> Masks:
    """Masks at the schedule's rates of step k."""
    rates = {code: damped(s, k, state.damping, state.damping_steps) for code, s in state.targets.items()}
    return select_masks(params, labels, components, rates)


def _hold(updates: Any, masks: Masks, params: Any) -> Any:
    """Updates after which pruned weights are zero."""
    return map_masked(lambda keep, u, p: jnp.where(keep, u, -p), masks, updates, params)


def _is_event(k: jax.Array, warmup_steps: int, interval_steps: int, epoch_steps: int) -> jax.Array:
    """bool[]: whether the k-th step behind the warm-up prunes (`schedule.last_event` counts the same)."""
    due = k % interval_steps == 0
    if epoch_steps:
        due |= (k + warmup_steps) % epoch_steps == 0
    return (k > 0) & due
