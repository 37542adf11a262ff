"""The exact set of smallest magnitudes, found by counting only.

Non-negative floats sort like their bit patterns read as integers, so the k-th smallest magnitude is found by
passes that each count how many values lie below a candidate (see `search`). Counts add up across arrays (and
across shards), only a sample is sorted, and the result is exact. Equal magnitudes at the threshold go by
index, lowest first: few of them are found one by one, many by counting over indices.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.search import Cut, count_below, find_cut

_MAX_VALUES = 2**31 - 1  # counts are i32
_WHOLE = 2**31 - 1  # an index above all
_FEW_TIES = 8  # found one by one


def smallest(
    arrays: Sequence[jax.Array], count: jax.typing.ArrayLike, *, signed: bool = False
) -> list[jax.Array]:
    """Marks the `count` smallest magnitudes over all arrays together.

    Args:
      arrays: f32 or narrower float arrays of any shape; NaN sorts above infinity.
      count: i32[], how many to mark, in [0, total size]; may be traced.
      signed: order by value instead, -2 below 1; of equal values, as of 0 and -0, none is smaller.

    Returns:
      bool arrays of the same shapes; exactly `count` entries are True. Of equal magnitudes (or values) at
      the threshold those of the first array and the lowest index are marked first.

    Raises:
      ConfigError: more than 2^31 - 1 values.

    Cost:
      Four or five counting passes; up to 17, and then 11 over indices, where many equal ones straddle the
      threshold.
    """
    if sum(a.size for a in arrays) > _MAX_VALUES:
        raise ConfigError(
            f"{sum(a.size for a in arrays)} values share one threshold; at most {_MAX_VALUES} can"
        )
    bits = [_value_bits(a) if signed else _magnitude_bits(a) for a in arrays]
    cut = find_cut(bits, jnp.asarray(count, jnp.int32))
    straddled = (cut.ties > 0) & (cut.ties < cut.equal)
    return jax.lax.cond(straddled, _below_and_first_ties, _below_or_equal, bits, cut)


def _below_or_equal(bits: list[jax.Array], cut: Cut) -> list[jax.Array]:
    """Values below the bound, and those that equal it if any are wanted: then all are."""
    bound = cut.bound + (cut.ties > 0).astype(cut.bound.dtype)
    return [b < bound for b in bits]


def _below_and_first_ties(bits: list[jax.Array], cut: Cut) -> list[jax.Array]:
    """Values below the bound, and the first of those that equal it."""
    at, equal = _indices(bits), [b == cut.bound for b in bits]
    last = jax.lax.cond(cut.ties <= _FEW_TIES, _last_of_few, _last_of_many, at, equal, cut.ties)
    return [(b < cut.bound) | (e & (i <= last)) for b, e, i in zip(bits, equal, at, strict=True)]


def _last_of_few(at: list[jax.Array], equal: list[jax.Array], ties: jax.Array) -> jax.Array:
    """i32[], the ties-th index of those marked; a pass for each."""

    def next_behind(_: jax.Array, last: jax.Array) -> jax.Array:
        behind = [jnp.min(jnp.where(e & (i > last), i, _WHOLE)) for e, i in zip(equal, at, strict=True)]
        return jnp.stack(behind).min()

    return jax.lax.fori_loop(0, ties, next_behind, jnp.int32(-1))


def _last_of_many(at: list[jax.Array], equal: list[jax.Array], ties: jax.Array) -> jax.Array:
    """i32[], the same in 11 passes: the number of marked indices below it is one less than `ties`."""
    marked = [jnp.where(e, i, _WHOLE) for e, i in zip(equal, at, strict=True)]

    def three_bits(turn: jax.Array, found: jax.Array) -> jax.Array:
        bounds = found + (jnp.arange(1, 8, dtype=jnp.int32) << (30 - 3 * turn))
        reached = (bounds > found) & (count_below(marked, bounds) < ties)
        return jnp.maximum(found, jnp.max(jnp.where(reached, bounds, 0)))

    return jax.lax.fori_loop(0, 11, three_bits, jnp.int32(0))


def _magnitude_bits(x: jax.Array) -> jax.Array:
    """i32 in [0, 2^31 - 2], ordered as |x| is."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.int32)
    return jnp.minimum(bits, _MAX_VALUES - 1)  # two kinds of NaN become one


def _value_bits(x: jax.Array) -> jax.Array:
    """u32 in [0, 2^32 - 2], ordered as x is; both zeros alike, every NaN last.

    By bits alone: comparing floats would flush subnormals.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    sign, magnitude = jnp.uint32(1 << 31), bits & jnp.uint32((1 << 31) - 1)
    positive = (bits < sign) | (magnitude == 0) | (magnitude > jnp.uint32(0x7F800000))
    return jnp.minimum(jnp.where(positive, magnitude | sign, ~bits), jnp.uint32(2**32 - 2))


def _indices(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """i32, a running row-major index over all arrays."""
    out, start = [], 0
    for a in arrays:
        index, step = jnp.full(a.shape, start, jnp.int32), 1
        for axis in reversed(range(a.ndim)):  # an axis at a time: split rows are numbered where they are
            index += step * jax.lax.broadcasted_iota(jnp.int32, a.shape, axis)
            step *= a.shape[axis]
        out.append(index)
        start += a.size
    return out
