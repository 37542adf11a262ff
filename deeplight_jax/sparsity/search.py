"""The cut between the smallest values and the rest, found by counting only, from a sample's guess.

A pass over all values counts below seven bounds at once, which costs little more than one bound does: the
values are read once. The first bounds are a sample's order statistics around the wanted rank; the next lie
where the counts so far put the cut, give or take its likely error, and at quarters of the bracket. A wrong
guess costs passes, never exactness: each quarters the bracket at least, so at most 17 end it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.mesh import mesh_here

_SAMPLE = 1 << 16  # values sorted for the guess
_FEW = 64  # values in the bracket, below which eighths of it are the better bounds
_FIRST = np.array([-4, -1.5, -0.5, 0, 0.5, 1.5, 4], np.float32)  # standard deviations of the sample's rank
_AIMED = np.array([-2.5, -0.6, 0.6, 2.5], np.float32)  # of the rank within a bracket
_QUARTERS = np.array([0.25, 0.5, 0.75], np.float32)
_EIGHTHS = np.arange(1, 8, dtype=np.float32) / 8


class Cut(NamedTuple):
    """The values below `bound`, and the first `ties` of those equal to it.

    Attributes:
      bound: i32[] or u32[], as the values are.
      ties: i32[], 0 where a bound was found with exactly as many values below it as wanted.
      equal: i32[], how many values equal the bound; counted only where `ties` is not 0.
    """

    bound: jax.Array
    ties: jax.Array
    equal: jax.Array


def find_cut(bits: Sequence[jax.Array], count: jax.Array) -> Cut:
    """The cut below which `count` values lie.

    Args:
      bits: i32 or u32 arrays of any shape, values from 0 to below the type's largest; the order is over all
        of them together.
      count: i32[], in [0, total size].

    Cost:
      Sorting 65,536 values, then counting passes: of 13M values four or five, and 17 if all are equal.
    """
    size = sum(b.size for b in bits)
    stride = max(1, size // _SAMPLE) | 1  # odd, so that it does not fall on one column of a table
    sample = jnp.sort(jnp.concatenate([_each(b, stride) for b in bits]))

    def counted(bracket: _Bracket, bounds: jax.Array) -> _Bracket:
        return _narrowed(bracket, bounds, count_below(bits, bounds), count)

    top, none = jnp.full_like(sample[0], jnp.iinfo(sample.dtype).max), jnp.zeros_like(count)
    whole = _Bracket(jnp.zeros_like(top), jnp.where(count > 0, top, 0), none, jnp.where(count > 0, size, 0))
    bracket = _search(counted(whole, _likely(sample, count, size)), counted, count)
    met = bracket.below_high == count
    bound = jnp.where(met, bracket.high, bracket.low)
    ties = jnp.where(met, 0, count - bracket.below_low)
    return Cut(bound, ties, bracket.below_high - bracket.below_low)


def _each(x: jax.Array, stride: int) -> jax.Array:
    """`x.reshape(-1)[::stride]`; of a matrix by row and column, so that split rows stay where they are."""
    if x.ndim != 2:
        return x.reshape(-1)[::stride]
    at = np.arange(0, x.size, stride)
    return x.at[at // x.shape[1], at % x.shape[1]].get(mode="promise_in_bounds")


def count_below(arrays: Sequence[jax.Array], bounds: jax.Array) -> jax.Array:
    """i32[bound], how many values of all arrays lie below each bound; one pass over them."""
    counts = (count_marks([_flat(a) < bound for bound in bounds]) for a in arrays)
    return sum(counts, jnp.zeros(bounds.shape, jnp.int32))


def count_marks(marks: Sequence[jax.Array]) -> jax.Array:
    """i32[mark], how many are True in each of several bool arrays of one shape, in one pass.

    A sum of each alone would be a pass each, and on a CPU a slower one.
    """
    ones = [mark.astype(jnp.int32) for mark in marks]
    return jnp.stack(jax.lax.reduce(ones, [jnp.int32(0)] * len(ones), _add_each, range(ones[0].ndim)))


def _flat(x: jax.Array) -> jax.Array:
    """The array in one axis, which a CPU counts a quarter faster; on a mesh as it is: split rows stay."""
    return x.reshape(-1) if mesh_here() is None else x


def _add_each(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> list[jax.Array]:
    return [x + y for x, y in zip(a, b, strict=True)]


class _Bracket(NamedTuple):
    """low < high with below_low < count <= below_high values below them."""

    low: jax.Array
    high: jax.Array
    below_low: jax.Array
    below_high: jax.Array


def _narrowed(bracket: _Bracket, bounds: jax.Array, below: jax.Array, count: jax.Array) -> _Bracket:
    """The part of a bracket between the bounds next to the cut; `below` so many values lie under each."""
    low, high, below_low, below_high = bracket
    under = below < count
    return _Bracket(
        jnp.maximum(low, jnp.max(jnp.where(under, bounds, low))),
        jnp.minimum(high, jnp.min(jnp.where(under, high, bounds))),
        jnp.maximum(below_low, jnp.max(jnp.where(under, below, below_low))),
        jnp.minimum(below_high, jnp.min(jnp.where(under, below_high, below))),
    )


def _search(
    bracket: _Bracket, counted: Callable[[_Bracket, jax.Array], _Bracket], count: jax.Array
) -> _Bracket:
    """The bracket whose upper end has exactly `count` values below it, or that holds a single value."""

    def unfinished(bracket: _Bracket) -> jax.Array:
        return (bracket.below_high != count) & (bracket.high - bracket.low > 1)

    return jax.lax.while_loop(unfinished, lambda b: counted(b, _bounds_in(b, count)), bracket)


def _likely(sample: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """The sample's values around the wanted rank."""
    rank = count.astype(jnp.float32) / size * sample.size
    spread = jnp.sqrt(jnp.maximum(rank * (1 - rank / sample.size), 0.0) + 1)
    return sample[jnp.clip((rank + spread * _FIRST).astype(jnp.int32), 0, sample.size - 1)]


def _bounds_in(bracket: _Bracket, count: jax.Array) -> jax.Array:
    """Where to count next, as if values lay evenly within the bracket."""
    low, high, below_low, below_high = bracket
    inside = (below_high - below_low).astype(jnp.float32)
    part = (count - below_low).astype(jnp.float32) / inside
    error = jnp.sqrt(inside * jnp.maximum(part * (1 - part), 0.0) + 1) / inside
    aimed = jnp.concatenate([jnp.clip(part + error * _AIMED, 0.0, 1.0 - 2.0**-20), _QUARTERS])
    shares = jnp.where(inside < _FEW, _EIGHTHS, aimed)
    width = high - low
    steps = jnp.minimum((shares * width.astype(jnp.float32)).astype(low.dtype), width - 1)
    return low + jnp.maximum(steps, 1)
