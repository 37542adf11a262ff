"""The exact set of smallest magnitudes, found by counting only.

Non-negative floats sort like their bit patterns read as integers, so the k-th smallest magnitude is found by
passes that each count how many values lie below a candidate (see `search`). Counts add up across arrays (and
across shards), only a sample is sorted, and the result is exact. Equal magnitudes at the threshold go by
index, lowest first, found by a bisection over indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.search import find_cut

_MAX_VALUES = 2**31 - 1  # counts are i32
_WHOLE = 2**31 - 1  # an index above all


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
      Four or five counting passes; up to 17 and then 32 over indices only where equal ones straddle the
      threshold.
    """
    if sum(a.size for a in arrays) > _MAX_VALUES:
        raise ConfigError(
            f"{sum(a.size for a in arrays)} values share one threshold; at most {_MAX_VALUES} can"
        )
    bits = [_value_bits(a) if signed else _magnitude_bits(a) for a in arrays]
    cut = find_cut(bits, jnp.asarray(count, jnp.int32))
    last = jax.lax.cond(
        (cut.ties > 0) & (cut.ties < cut.equal),
        _last_tie,
        lambda *_: jnp.int32(_WHOLE),
        bits,
        cut.bound,
        cut.ties,
    )
    last = jnp.where(cut.ties > 0, last, -1)
    return [
        (b < cut.bound) | ((b == cut.bound) & (i <= last)) for b, i in zip(bits, _indices(bits), strict=True)
    ]


def _last_tie(bits: list[jax.Array], bound: jax.Array, ties: jax.Array) -> jax.Array:
    """i32[], running index of the last of so many values that equal the bound."""
    equal = [(b == bound, i) for b, i in zip(bits, _indices(bits), strict=True)]
    return _largest_with_fewer(lambda v: _total(e & (i < v) for e, i in equal), ties, jnp.int32(1))


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


def _largest_with_fewer(
    count_below: Callable[[jax.Array], jax.Array], count: jax.Array, one: jax.Array
) -> jax.Array:
    """Largest v >= 0 with count_below(v) < count, bit by bit from the top; 0 if there is none.

    v is of the type of `one`, i32 or u32.
    """
    bits = jnp.iinfo(one.dtype).bits - (one.dtype == jnp.int32)

    def try_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (one << (bits - 1 - i).astype(one.dtype))
        return jnp.where(count_below(candidate) < count, candidate, found)

    return jax.lax.fori_loop(0, bits, try_bit, one - one)


def _total(marks) -> jax.Array:
    return sum((jnp.sum(m, dtype=jnp.int32) for m in marks), jnp.int32(0))


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
