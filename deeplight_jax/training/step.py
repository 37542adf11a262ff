"""One training step, pure: loss, gradient, optimizer update with projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from deeplight_jax.config import Config
from deeplight_jax.data.schema import Batch
from deeplight_jax.sparsity.branch import change_if
from deeplight_jax.training.memory import keep_freed_memory
from deeplight_jax.training.plan import Plan, prunes_at
from deeplight_jax.training.rowsparse import handed, rows_read, take
from deeplight_jax.training.state import TrainState

_LARGEST = 1e19  # its square is still a float32
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, jax.Array]]
NumberedStep = Callable[[Any, Batch, int], tuple[Any, jax.Array]]
"""(state, batch, number of the step from 1) -> (state, loss), as the host knows the number."""


def mean_log_loss(logits: jax.Array, batch: Batch) -> jax.Array:
    """Mean of log(1 + e^z) - z y over the batch's rows of weight 1; f32[], nats, of float[batch] logits."""
    logits = logits.astype(jnp.float32)
    losses = jax.nn.softplus(logits) - logits * batch.label
    return jnp.sum(losses * batch.weight) / jnp.sum(batch.weight)


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    config: Config,
    event: bool | None = None,
) -> TrainStep:
    """`train_step_of`, jitted; it compiles once and donates the state."""
    keep_freed_memory()
    return jax.jit(train_step_of(model, optimizer, config, event), donate_argnums=0)


def device_is_apart() -> bool:
    """Whether the default device is not this processor.

    A GPU then waits for the host at each branch, and batches can be drawn while it works; on a CPU a thread
    that draws them wins less than a tenth (`benchmarks/ahead.py`).
    """
    return jax.default_backend() != "cpu"


def events_are_apart(plan: Plan) -> bool:
    """Whether a run's pruning events have a program of their own, so that no step has a branch."""
    return device_is_apart() and bool(plan.components)


def step_by_number(
    program_of: Callable[[bool | None], Callable[[Any, Batch], Any]], plan: Plan, config: Config
) -> NumberedStep:
    """A run's step: one program, or where `events_are_apart` one for pruning events and one for the rest.

    Args:
      program_of: makes the jitted step for pruning events, for other steps, or (None) with a branch.
      plan, config: of the run.

    Returns:
      `step(state, batch, number)`, which returns what the program does.
    """
    if not events_are_apart(plan):
        program = program_of(None)
        return lambda state, batch, _: program(state, batch)
    between, at_event = program_of(False), program_of(True)
    return lambda state, batch, n: (at_event if prunes_at(plan, config, n) else between)(state, batch)


def train_step_of(
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    config: Config,
    event: bool | None = None,
) -> TrainStep:
    """The step as a pure function, to be jitted or mapped over stacked states.

    With `train.on_nonfinite=skip` a step whose loss or gradient is not finite, or whose gradient's square
    would not be, changes nothing but the step's number: Adam's moments never see it, and an event due then is
    left out. `event` says whether the step prunes; None: by the state's number of steps, in a branch.

    Returns:
      `step(state, batch) -> (state, loss f32[])`; the loss is of the weights before the update, with
      dropout; NaN where the update was dropped.
    """
    loss, skips = loss_of(model, config), config.train.on_nonfinite == "skip"
    sparse = config.optim.embedding != "adam"

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        rows = rows_read(model, state.params, batch) if sparse else None
        read = take(state.params, rows) if sparse else state.params
        value, gradient = jax.value_and_grad(loss)(read, state, batch, rows)
        step = state.step + 1
        given = {"rows": rows} if sparse else {"gradients": gradient, "apply": True}
        given["event"] = event

        def update(params: Any, opt_state: Any) -> tuple[Any, Any]:
            return optimizer.update(gradient, opt_state, params, step=step, **given)

        if skips:
            usable = jnp.isfinite(value) & jnp.stack([is_usable(g) for g in jax.tree.leaves(gradient)]).all()
            value = jnp.where(usable, value, jnp.nan)
            params, opt_state = change_if(usable, update, state.params, state.opt_state)
        else:
            params, opt_state = update(state.params, state.opt_state)
        return state.replace(step=step, params=params, opt_state=opt_state), value

    return train_step


def loss_of(model: nn.Module, config: Config) -> Callable[..., jax.Array]:
    """The mean log loss with the dropout of the state's next step, as a function to differentiate.

    Returns:
      `loss(params, state, batch, rows=None) -> f32[]`; with `rows`, of `rows_read`, `params` is what `take`
      took of the state's.
    """
    rate, steps = config.model.dropout, config.model.dropout_steps

    def loss(params: Any, state: TrainState, batch: Batch, rows: Any = None) -> jax.Array:
        dropout_rate, rngs = None, {}
        if rate:
            on = (state.step < steps) if steps else True
            dropout_rate = jnp.where(on, jnp.float32(rate), 0.0)
            rngs = {"dropout": jax.random.fold_in(jax.random.key(state.seed), state.step)}
        variables = {"params": params} if rows is None else handed(params, rows, state.params)
        logits: Any = model.apply(variables, batch.ids, batch.values, dropout_rate, rngs=rngs)
        return mean_log_loss(logits, batch)

    return loss


def is_usable(gradient: jax.Array) -> jax.Array:
    """bool[]: whether every value is finite and so is its square, which Adam's second moment takes in."""
    return (jnp.abs(gradient) <= _LARGEST).all()
