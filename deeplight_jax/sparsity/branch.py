"""A branch that leaves large arrays where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def change_if(condition: jax.Array | bool, change: Callable[..., Any], *carry: Any) -> Any:
    """`change(*carry)` where the condition holds, else `carry`, as `lax.cond` would; returns a tuple.

    A loop of one turn or none: a loop's state is updated in place, while XLA copies what a conditional's
    branch passes through, which for a table of 13M values costs half as much as the step around it.

    Args:
      condition: bool[]; one that is not batched stays a branch under `jax.vmap`. A Python bool makes none.
      change: returns a tuple structured as `carry`, of the same shapes and dtypes.
    """

    if isinstance(condition, bool):
        return tuple(change(*carry)) if condition else carry

    def once(state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        return jnp.zeros_like(state[0]), tuple(change(*state[1]))

    return jax.lax.while_loop(lambda state: state[0], once, (condition, carry))[1]
