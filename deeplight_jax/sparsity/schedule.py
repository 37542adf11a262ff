"""How the pruning rate grows with training: Algorithm 1's line 6, and two others to compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from deeplight_jax.errors import ConfigError

Schedule = Callable[
    [jax.typing.ArrayLike, jax.typing.ArrayLike, jax.typing.ArrayLike, jax.typing.ArrayLike], jax.Array
]
"""(target, k, damping, damping_steps) -> rate, as `damped` takes and returns them."""


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


def polynomial(
    target: jax.typing.ArrayLike,
    k: jax.typing.ArrayLike,
    damping: jax.typing.ArrayLike = 0.99,
    damping_steps: jax.typing.ArrayLike = 100.0,
) -> jax.Array:
    """The cubic rate s = S(1 - (1 - k/T)^3), S from step T on (Zhu & Gupta 2017, equation 1, from s_i = 0).

    T = U ln(0.01) / ln(D), where `damped` has reached 99 % of S, so that the two can be exchanged.

    Args and Returns: as of `damped`.
    """
    elapsed = jnp.maximum(jnp.asarray(k, jnp.float32), 0.0)
    left = jnp.maximum(1.0 - elapsed * jnp.log(damping) / (damping_steps * math.log(0.01)), 0.0)
    return jnp.asarray(target, jnp.float32) * (1.0 - left**3)


def one_shot(
    target: jax.typing.ArrayLike,
    k: jax.typing.ArrayLike,
    damping: jax.typing.ArrayLike = 0.99,
    damping_steps: jax.typing.ArrayLike = 100.0,
) -> jax.Array:
    """All of S at the first event (one-shot pruning of Frankle & Carbin 2019); D and U mean nothing to it.

    Args and Returns: as of `damped`.
    """
    return jnp.where(jnp.asarray(k) > 0, jnp.asarray(target, jnp.float32), 0.0)


SCHEDULES: dict[str, Schedule] = {"damped": damped, "polynomial": polynomial, "one_shot": one_shot}


def is_event(k: Any, warmup_steps: int, interval_steps: int, epoch_steps: int = 0) -> Any:
    """Whether the k-th step behind the warm-up prunes: bool[] of a traced i32[], or bool of a host's int.

    Args:
      k: below 1 before the warm-up's end.
      warmup_steps, interval_steps, epoch_steps: as of `last_event`.
    """
    due = k % interval_steps == 0
    if epoch_steps:
        due |= (k + warmup_steps) % epoch_steps == 0
    return (k > 0) & due


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


def fraction_reached(k: int, damping: float, damping_steps: float, schedule: str = "damped") -> float:
    """Share of its target, in [0, 1], that a schedule of `SCHEDULES` has reached k steps after warm-up."""
    elapsed = max(k, 0) / damping_steps
    if schedule == "one_shot":
        return float(k > 0)
    if schedule == "polynomial":
        return 1.0 - max(1.0 - elapsed * math.log(damping) / math.log(0.01), 0.0) ** 3
    return 1.0 - damping**elapsed


def damping_steps_to_reach(fraction: float, k: int, damping: float, schedule: str = "damped") -> float:
    """U in steps with which a schedule reaches `fraction` of its target exactly at k (one_shot: at once).

    Raises:
      ConfigError: there is no pruning step at all (k < 1).
    """
    if k < 1:
        raise ConfigError("no pruning event fits behind the warm-up; train longer or warm up less")
    if schedule == "polynomial":
        return k * math.log(damping) / (math.log(0.01) * (1.0 - (1.0 - fraction) ** (1 / 3)))
    return k * math.log(damping) / math.log1p(-fraction)
