"""The cut between the smallest values and the rest, found by counting only, from a sample's guess.

Order statistics of a strided sample bracket the cut; counting passes over all values check the bracket and
narrow it, by interpolation between counts with a margin to either side in turn, every third time by halving.
A wrong guess costs passes, never exactness; a bracket halves at least every third pass, so at most 93 end it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_SAMPLE = 1 << 16  # values sorted for the guess
_FEW = 16  # values in the bracket, below which halving is the quicker


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
      Sorting 65,536 values, then counting passes: of 13M values some 10, and 31 of them if all are equal.
    """
    size = sum(b.size for b in bits)
    stride = max(1, size // _SAMPLE) | 1  # odd, so that it does not fall on one column of a table
    sample = jnp.sort(jnp.concatenate([b.reshape(-1)[::stride] for b in bits]))

    def count_below(value: jax.Array) -> jax.Array:
        return sum((jnp.sum(b < value, dtype=jnp.int32) for b in bits), jnp.int32(0))

    bracket = _narrow(_first_bracket(sample, count_below, size, count), count_below, count)
    met = bracket.below_high == count
    bound = jnp.where(met, bracket.high, bracket.low)
    ties = jnp.where(met, 0, count - bracket.below_low)
    return Cut(bound, ties, bracket.below_high - bracket.below_low)


class _Bracket(NamedTuple):
    """low < high with below_low < count <= below_high values below them."""

    low: jax.Array
    high: jax.Array
    below_low: jax.Array
    below_high: jax.Array


def _first_bracket(
    sample: jax.Array, count_below: Callable[[jax.Array], jax.Array], size: int, count: jax.Array
) -> _Bracket:
    """From the sample's values four standard deviations to either side of the wanted rank."""
    last = sample.size - 1
    rank = count.astype(jnp.float32) / size * sample.size
    spread = 4 * jnp.sqrt(jnp.maximum(rank * (1 - rank / sample.size), 0.0) + 1)
    low = sample[jnp.clip((rank - spread).astype(jnp.int32), 0, last)]
    high = sample[jnp.clip((rank + spread).astype(jnp.int32) + 1, 0, last)] + 1
    below_low, below_high = count_below(low), count_below(high)
    zero, none = jnp.zeros_like(low), jnp.zeros_like(count)
    top = jnp.full_like(low, jnp.iinfo(low.dtype).max)
    bracket = _Bracket(low, high, below_low, below_high)
    under = _Bracket(zero, low, none, below_low)
    over = _Bracket(high, top, below_high, none + size)
    bracket = _choose(below_low >= count, under, bracket)
    bracket = _choose(below_high < count, over, bracket)
    return _choose(count <= 0, _Bracket(zero, zero, none, none), bracket)


def _narrow(bracket: _Bracket, count_below: Callable[[jax.Array], jax.Array], count: jax.Array) -> _Bracket:
    """The bracket whose upper end has exactly `count` values below it, or that holds a single value."""

    def unfinished(carry: tuple[_Bracket, jax.Array]) -> jax.Array:
        (low, high, _, below_high), _ = carry
        return (below_high != count) & (high - low > 1)

    def narrow(carry: tuple[_Bracket, jax.Array]) -> tuple[_Bracket, jax.Array]:
        bracket, turn = carry
        middle = _middle(bracket, count, turn)
        below = count_below(middle)
        upper = bracket._replace(low=middle, below_low=below)
        lower = bracket._replace(high=middle, below_high=below)
        return _choose(below < count, upper, lower), turn + 1

    return jax.lax.while_loop(unfinished, narrow, (bracket, jnp.int32(0)))[0]


def _middle(bracket: _Bracket, count: jax.Array, turn: jax.Array) -> jax.Array:
    """Where to count next: two standard deviations of the rank under it, over it, then half way."""
    low, high, below_low, below_high = bracket
    inside = (below_high - below_low).astype(jnp.float32)
    part = (count - below_low).astype(jnp.float32) / inside
    margin = 2 * jnp.sqrt(inside * jnp.maximum(part * (1 - part), 0.0) + 1) / inside
    aimed = jnp.clip(jnp.where(turn % 3 == 0, part - margin, part + margin), 0.0, 1.0)
    there = low + (aimed * (high - low).astype(jnp.float32)).astype(low.dtype)
    half = low + (high - low) // 2
    return jnp.clip(jnp.where((turn % 3 == 2) | (inside < _FEW), half, there), low + 1, high - 1)


def _choose(condition: jax.Array, yes: _Bracket, no: _Bracket) -> _Bracket:
    return _Bracket(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))
