"""What a component's scope chooses between: weights, rows, units; and which of them are ranked together.

A leaf's scores become scores of choices in pools, each pool pruned to the rate; marks on choices become marks
on weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.sparsity.components import Component

Pools = list[list[jax.Array]]


def pools_of(component: Component, leaves: Sequence[jax.Array], signed: bool = False) -> Pools:
    """Scores of choices, a list a pool.

    Args:
      component: of any scope but N:M.
      leaves: f32 scores of each weight.
      signed: as of `smallest`: the score of a row or unit is the sum of its weights' scores; else their L2
        norm.
    """
    if component.scope == "global":
        return [list(leaves)] if leaves else []
    if component.scope == "rows":
        return [[_norm(x, tuple(range(1, x.ndim)), signed) for x in leaves]] if leaves else []
    if component.scope == "units":
        return [[_norm(x, tuple(range(x.ndim - 1)), signed)] for x in leaves]
    if component.scope == "sections":
        return [[x[a:b]] for x in leaves for a, b in pairwise(_cuts(component, x))]
    if component.scope == "symmetric":
        return [[x + x.T if is_square(x) else x] for x in leaves]
    return [[x] for x in leaves]


def marks_on(component: Component, pools: Pools, leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """bool of each leaf's shape, from marks on the choices of `pools_of`."""
    if component.scope == "rows":
        marks = [m for pool in pools for m in pool]
        return [_spread(m.reshape(-1, *[1] * (x.ndim - 1)), x) for m, x in zip(marks, leaves, strict=True)]
    if component.scope == "units":
        return [_spread(mark, x) for (mark,), x in zip(pools, leaves, strict=True)]
    if component.scope == "sections":
        flat, out = iter(pools), []
        for x in leaves:
            parts = [next(flat)[0] for _ in pairwise(_cuts(component, x))]
            out.append(jnp.concatenate(parts) if len(parts) > 1 else parts[0])
        return out
    marks = [mark for pool in pools for mark in pool]
    if component.scope == "symmetric":
        return [mark | mark.T if is_square(mark) else mark for mark in marks]
    return marks


def smallest_of_groups(x: jax.Array, group: int, rate: jax.typing.ArrayLike, *, signed: bool) -> jax.Array:
    """Marks the round(rate * M) smallest of each M successive weights along the first axis.

    Args:
      x: float[input, ...] scores.
      group: M; where it does not divide the inputs, those missing in the last group count as marked.
      rate: f32[].
      signed: as of `smallest`.

    Returns:
      bool of x's shape; of equal scores the first are marked first.
    """
    score, missing = (x if signed else jnp.abs(x)), -x.shape[0] % group
    padding = [(0, missing), *[(0, 0)] * (x.ndim - 1)]
    padded = jnp.pad(score, padding, constant_values=-jnp.inf)
    grouped = padded.reshape(-1, group, *x.shape[1:])
    rank = jnp.argsort(jnp.argsort(grouped, axis=1, stable=True), axis=1)
    count = jnp.round(jnp.asarray(rate, jnp.float32) * group).astype(jnp.int32)
    return (rank < count).reshape(padded.shape)[: x.shape[0]]


def _norm(x: jax.Array, axes: tuple[int, ...], signed: bool) -> jax.Array:
    if not axes:
        return x
    return jnp.sum(x, axis=axes) if signed else jnp.sqrt(jnp.sum(jnp.square(x), axis=axes))


def _spread(mark: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(mark, like.shape)


def _cuts(component: Component, x: jax.Array) -> list[int]:
    """Rows where sections begin, and where the last one ends."""
    cuts = np.cumsum((0, *component.sections)).tolist()
    return cuts if cuts[-1] == x.shape[0] else [0, x.shape[0]]


def is_square(x: jax.Array) -> bool:
    """Whether w_ij and w_ji of it are one choice under the symmetric scope."""
    return x.ndim == 2 and x.shape[0] == x.shape[1]
