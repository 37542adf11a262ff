"""Algorithm 1 as an optax transform: put it last in the chain.

Cost: an event is four or five counting passes over each component and one over its masks; other steps add
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deeplight_jax.sparsity.algebra import intersect
from deeplight_jax.sparsity.branch import change_if
from deeplight_jax.sparsity.churn import Churn, count_event, no_churn
from deeplight_jax.sparsity.components import Component, Labels
from deeplight_jax.sparsity.criteria import MAGNITUDE, Criterion, blank_memory
from deeplight_jax.sparsity.growth import Growth, check_growable, grow_masks, swapped_share
from deeplight_jax.sparsity.masks import Masks, apply_masks, full_masks, map_masked, select_masks
from deeplight_jax.sparsity.schedule import Schedule, damped, is_event


class ProjectionState(NamedTuple):
    """Owner of the masks, and of the schedule's traced settings.

    Attributes:
      masks: chosen at the last event; before the first all True, or what a caller put there to start from.
      targets: f32[] by component code.
      damping: f32[], D of the schedule.
      damping_steps: f32[], U of the schedule.
      churn: how often weights were pruned and kept again.
      memory: what the criterion and growth need, if anything: "scores" (f32, structured as the masks), "seed"
        (u32[]), "growth_rate" (f32[]).
    """

    masks: Masks
    targets: dict[str, jax.Array]
    damping: jax.Array
    damping_steps: jax.Array
    churn: Churn
    memory: dict[str, Any]


class Rule(NamedTuple):
    """How masks are chosen at an event; by default as Algorithm 1 does.

    Attributes:
      schedule: how the rate grows; one of `SCHEDULES` or a function like them.
      criterion: what is ranked; one of `CRITERIA` or one like them.
      growth: None: what ranks high enough is kept. One of `GROWTHS` or one like them: kept weights are
        swapped for pruned ones at a constant count; pruned ones are held at zero, whatever `regrow` says.
      seed: of a random criterion or growth.
    """

    schedule: Schedule = damped
    criterion: Criterion = MAGNITUDE
    growth: Growth | None = None
    seed: int = 0


ALGORITHM_1 = Rule()


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
    rule: Rule = ALGORITHM_1,
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
      damping, damping_steps: D and U, in steps, of s = S(1 - D^(k/U)); traced, as targets are.
      regrow: pruned weights may grow back between events and be judged again; else they stay at zero.
      rule: another schedule or criterion, or growth at a constant count.

    Returns:
      A transform whose `update(updates, state, params, *, step, gradients=None, apply=False)` takes the
      1-based number of this update; not batched, it keeps the event a branch under `jax.vmap`. A Python bool
      `event` in place of `is_event` makes none. `gradients` are the loss's, for a criterion or growth that
      reads them; growth refuses scope N:M. With `apply` the parameters after the update are returned: fewer
      passes over large tables. With `applied` they are given so, too, held at zero where they must be.
    """
    check_growable(components, rule.growth)
    init = partial(_init, labels=labels, components=components, damping=(damping, damping_steps), rule=rule)
    held = rule.growth is not None or not regrow

    def update(
        updates: Any, state: Any, params: Any = None, *, step: Any, gradients: Any = None, **extra: Any
    ) -> tuple[Any, ProjectionState]:
        k = jnp.asarray(step, jnp.int32) - warmup_steps
        state = _observe(state, params, gradients, rule)
        apply, applied = extra.get("apply", False), extra.get("applied", False)
        moved, hold = _target(updates, params, apply=apply, applied=applied)

        def project(moved: Any, before: Masks, churn: Churn) -> tuple[Any, Masks, Churn]:
            after = moved if apply or applied else optax.apply_updates(params, moved)
            masks = _select(after, gradients, k, state._replace(masks=before), labels, components, rule, held)
            return hold(moved, masks), masks, count_event(churn, before, masks, labels)

        known = extra.get("event")
        event = is_event(k, warmup_steps, interval_steps, epoch_steps) if known is None else known
        if not components:  # counted without a branch, at which a GPU waits for the host
            return moved, state._replace(churn=state.churn._replace(events=state.churn.events + event))
        moved = hold(moved, state.masks) if held and not applied else moved
        moved, masks, churn = change_if(event, project, moved, state.masks, state.churn)
        return moved, state._replace(masks=masks, churn=churn)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _target(
    updates: Any, params: Any, *, apply: bool, applied: bool
) -> tuple[Any, Callable[[Any, Masks], Any]]:
    """What is masked, the parameters after the update or the updates, and how."""
    if applied:
        return updates, apply_masks
    if apply:
        return optax.apply_updates(params, updates), apply_masks
    return updates, partial(_hold, params=params)


def _init(
    params: Any, labels: Labels, components: Sequence[Component], damping: tuple[float, float], rule: Rule
) -> ProjectionState:
    masks, (d, u) = full_masks(params, labels, components), damping
    targets = {c.code: jnp.float32(c.target) for c in components}
    return ProjectionState(
        masks, targets, jnp.float32(d), jnp.float32(u), no_churn(components), _memory(masks, rule)
    )


def _memory(masks: Masks, rule: Rule) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if rule.criterion.observe is not None:
        memory["scores"] = blank_memory(masks)
    if rule.criterion.seeded or rule.growth is not None:
        memory["seed"] = jnp.uint32(rule.seed)
    if rule.growth is not None:
        memory["growth_rate"] = jnp.float32(rule.growth.rate)
    return memory


def _check_given(params: Any, gradients: Any, rule: Rule) -> None:
    if params is None:
        raise ValueError("project_onto_masks needs params: call update(updates, state, params, step=...)")
    reads = rule.growth is not None and rule.growth.needs_gradients
    if gradients is None and (reads or rule.criterion.observe is not None):
        raise ValueError(
            "this criterion or growth needs gradients: call update(..., step=..., gradients=...)"
        )


def _observe(state: ProjectionState, params: Any, gradients: Any, rule: Rule) -> ProjectionState:
    """The state with this step's gradients taken into the criterion's memory, if given what it needs."""
    _check_given(params, gradients, rule)
    if rule.criterion.observe is None:
        return state
    scores = rule.criterion.observe(state.memory["scores"], params, gradients)
    return state._replace(memory={**state.memory, "scores": scores})


def _select(
    params: Any,
    gradients: Any,
    k: jax.Array,
    state: ProjectionState,
    labels: Labels,
    components: Sequence[Component],
    rule: Rule,
    held: bool,
) -> Masks:
    """Masks at the schedule's rates of step k; what is held at zero is not chosen again but by growth."""
    given = (k, state.damping, state.damping_steps)
    rates = {code: rule.schedule(s, *given) for code, s in state.targets.items()}
    seed = state.memory.get("seed", jnp.uint32(0))
    scores = rule.criterion.score(params, state.memory.get("scores"), seed)
    signed = rule.criterion.signed
    if rule.growth is None:
        chosen = select_masks(scores, labels, components, rates, signed=signed)
        return intersect(state.masks, chosen) if held else chosen  # given masks may be ahead of the rate
    share = swapped_share(state.memory["growth_rate"], k, rule.growth.steps)
    grown = rule.growth.score(params if gradients is None else gradients, seed, k)
    return grow_masks(state.masks, scores, grown, labels, components, rates, share, signed=signed)


def _hold(updates: Any, masks: Masks, params: Any) -> Any:
    """Updates after which pruned weights are zero."""
    return map_masked(lambda keep, u, p: jnp.where(keep, u, -p), masks, updates, params)
