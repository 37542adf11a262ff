"""How the pruning rate grows with training (Algorithm 1, line 6)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from deeplight_jax.errors import ConfigError


def damped(
    target: jax.typing.ArrayLike,
    k: jax.typing.ArrayLike,
    damping: jax.typing.ArrayLike = 0.99,
    damping_steps: jax.typing.ArrayLike = 100.0,
) -> jax.Array:
    """The damped rate s = S(1 - D^(k/U)): fast at first, then ever slower towards S.

    Args:
      target: f32[...], S in [0, 1), the rate approached.
      k: i32[...], steps since the end of warm-up; a negative k counts as 0.
      damping: f32[...], D in (0, 1).
      damping_steps: f32[...], U in steps.

    Returns:
      f32[...], fraction to be pruned, in [0, S]; float32's D carries a relative error of 6e-8 / (1 - D)
      into the exponent.
    """
    elapsed = jnp.maximum(jnp.asarray(k, jnp.float32), 0.0)
    # -expm1 keeps the small rates of the first events exact in float32
    return jnp.asarray(target, jnp.float32) * -jnp.expm1(elapsed / damping_steps * jnp.log(damping))


def last_event(total_steps: int, warmup_steps: int, interval_steps: int, epoch_steps: int = 0) -> int:
    """Step of a run's last pruning event, or 0 where it has none.

    Args:
      total_steps: steps of the whole run.
      warmup_steps: steps before pruning begins.
      interval_steps: steps between events.
      epoch_steps: also an event at every multiple of this step; 0 for none.
    """
    pruning = total_steps - warmup_steps
    regular = warmup_steps + pruning // interval_steps * interval_steps
    at_epoch_end = total_steps // epoch_steps * epoch_steps if epoch_steps else 0
    last = max(regular, at_epoch_end)
    return last if last > warmup_steps else 0


def fraction_reached(k: int, damping: float, damping_steps: float) -> float:
    """Share of its target, in [0, 1), that the schedule has reached k steps after warm-up."""
    return 1.0 - damping ** (max(k, 0) / damping_steps)


def damping_steps_to_reach(fraction: float, k: int, damping: float) -> float:
    """U in steps with which the schedule reaches `fraction` of its target exactly at k.

    Raises:
      ConfigError: there is no pruning step at all (k < 1).
    """
    if k < 1:
        raise ConfigError("no pruning event fits behind the warm-up; train longer or warm up less")
    return k * math.log(damping) / math.log1p(-fraction)
