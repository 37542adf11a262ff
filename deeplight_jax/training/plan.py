"""A run in steps: how long it is, when it prunes, and from when on it has reached its targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax

from deeplight_jax.config import COMPONENT_LETTERS, Config
from deeplight_jax.data.loader import steps_per_epoch
from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.components import SCOPES, UNPRUNED, Component, Labels
from deeplight_jax.sparsity.schedule import damping_steps_to_reach, fraction_reached, is_event, last_event


class Plan(NamedTuple):
    """Everything about a run that follows from its config and its number of rows.

    Attributes:
      epoch_steps: steps an epoch, the last partial batch counted.
      total_steps: steps of the run.
      warmup_steps: steps before pruning begins; all of them where masks are given and stay as they are.
      event_epoch_steps: `epoch_steps` if epochs end with an event, else 0.
      components: those with a target above 0; where training starts from masks, all there are.
      damping_steps: U, rescaled if the config asks for it.
      growth_steps: behind the warm-up, in which growth swaps weights: 75 % of them (Evci et al. 2020).
      reach: share of the targets that counts as reached.
      notice: what the user should know of the schedule; empty if nothing.
    """

    epoch_steps: int
    total_steps: int
    warmup_steps: int
    event_epoch_steps: int
    components: tuple[Component, ...]
    damping_steps: float
    growth_steps: int
    reach: float
    notice: str


def make_plan(config: Config, rows: int, field_rows: Sequence[int] = ()) -> Plan:
    """The plan of a run over `rows` training rows.

    Args:
      config: of the run.
      rows: to train on.
      field_rows: rows of each field in the embedding table; without them fields cannot be pruned one by one.

    Raises:
      ConfigError: the schedule cannot reach its targets and `sparsity.short_schedule` is "error", or a scope
        does not fit its target.
    """
    sparsity = config.sparsity
    epoch_steps = steps_per_epoch(rows, config.data.batch_size)
    total = config.train.epochs * epoch_steps
    components = tuple(
        _component(code, config, field_rows)
        for code in COMPONENT_LETTERS.values()
        if sparsity[code] or sparsity.init_masks
    )
    fixed = sparsity.growth == "none" and not (sparsity.regrow or any(c.target for c in components))
    warmup = total if fixed else round(sparsity.warmup_epochs * epoch_steps)
    event_epoch_steps = epoch_steps if sparsity.epoch_end_event else 0
    growth_steps = round(0.75 * (total - warmup))
    plan = Plan(
        epoch_steps, total, warmup, event_epoch_steps, components, sparsity.damping_steps, growth_steps,
        sparsity.reach, "",
    )  # fmt: skip
    k = last_event(total, warmup, sparsity.interval_steps, event_epoch_steps) - warmup
    reached = fraction_reached(k, sparsity.damping, sparsity.damping_steps, sparsity.schedule)
    if not any(c.target for c in components) or reached >= sparsity.reach:
        return plan
    return _shortened(plan, config, max(k, 0), reached)


def targets(plan: Plan) -> dict[str, float]:
    """Target rate by code of the components that masks prune."""
    return {c.code: c.target for c in plan.components}


def check_prunable(plan: Plan, labels: Labels, model: str) -> None:
    """Refuse targets of components that a model does not have.

    Raises:
      ConfigError: naming the component, and those that the model has.
    """
    has = set(jax.tree.leaves(labels)) - {UNPRUNED}
    for component in plan.components:
        if component.target and component.code not in has:
            raise ConfigError(
                f"sparsity.{component.code}={component.target:g}, but model {model} has no such weights; "
                f"it has {', '.join(sorted(has))}"
            )


def prunes_at(plan: Plan, config: Config, step: int) -> bool:
    """Whether a step of the run, numbered from 1, is a pruning event."""
    return is_event(
        step - plan.warmup_steps, plan.warmup_steps, config.sparsity.interval_steps, plan.event_epoch_steps
    )


def is_ripe(plan: Plan, config: Config, step: int, *, pruned: bool = True) -> bool:
    """Whether a model after `step` steps has reached its targets, so that it may be chosen as the best.

    Args:
      plan: of the run.
      config: of the run.
      step: updates done.
      pruned: whether the run had an event yet: one that begins late (`train.init_from`) has missed some.
    """
    if not any(c.target for c in plan.components):
        return True
    if not pruned:
        return False
    event = last_event(step, plan.warmup_steps, config.sparsity.interval_steps, plan.event_epoch_steps)
    given = (config.sparsity.damping, plan.damping_steps, config.sparsity.schedule)
    reached = fraction_reached(event - plan.warmup_steps, *given)
    return reached >= plan.reach - 1e-9


def _component(code: str, config: Config, field_rows: Sequence[int]) -> Component:
    """A component under the scope that the config gives it."""
    sparsity, scope = config.sparsity, str(SCOPES[code])
    if code == "dnn":
        scope = sparsity.dnn_scope
    elif code == "embedding":
        per_field = sparsity.embedding_scope == "per_field"
        scope = "sections" if per_field else sparsity.embedding_scope
    if scope == "sections" and not field_rows:
        raise ConfigError(
            "sparsity.embedding_scope=per_field needs the fields' rows: make_plan(field_rows=...)"
        )
    sections = tuple(field_rows) if scope == "sections" else ()
    component = Component(code, sparsity[code], scope, sections)
    if component.group and sparsity.growth != "none":
        raise ConfigError(f"sparsity.growth={sparsity.growth} cannot grow sparsity.{code}_scope={scope}; set "
                          "one of them back to its default")  # fmt: skip
    return component


def _shortened(plan: Plan, config: Config, k: int, reached: float) -> Plan:
    short = (
        f"{k} pruning steps (of {plan.total_steps} in all) reach {reached:.1%} of the targets at "
        f"damping_steps={config.sparsity.damping_steps:g}, short of {100 * config.sparsity.reach:g}%"
    )
    mode = config.sparsity.short_schedule
    if k < 1 or mode == "error":
        remedy = "train longer or lower sparsity.warmup_epochs or data.batch_size"
        rescue = "" if k < 1 else ", or set sparsity.short_schedule=rescale (U) or =accept"
        raise ConfigError(f"{short}; {remedy}{rescue}")
    if mode == "accept":
        return plan._replace(reach=reached, notice=f"{short}; accepted as asked")
    given = (config.sparsity.damping, config.sparsity.schedule)
    steps = damping_steps_to_reach(config.sparsity.reach, k, *given)
    return plan._replace(damping_steps=steps, notice=f"{short}; damping_steps rescaled to {steps:.4g}")
