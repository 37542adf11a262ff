"""The exact set of smallest magnitudes, found by counting only.

Non-negative floats sort like their bit patterns read as integers, so the k-th smallest magnitude is found
bit by bit: 31 passes that each count how many values lie below a candidate. Counts add up across arrays
(and across shards), nothing is sorted or copied, and the result is exact. Equal magnitudes at the
threshold go by index, lowest first, found by the same search over indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from deeplight_jax.errors import ConfigError

_MAX_VALUES = 2**31 - 1  # counts are i32


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
      31 counting passes (32 if signed); up to 31 more only where equal ones straddle the threshold.
    """
    if sum(a.size for a in arrays) > _MAX_VALUES:
        raise ConfigError(
            f"{sum(a.size for a in arrays)} values share one threshold; at most {_MAX_VALUES} can"
        )
    bits = [_value_bits(a) if signed else _magnitude_bits(a) for a in arrays]
    count = jnp.asarray(count, jnp.int32)
    one = jnp.uint32(1) if signed else jnp.int32(1)
    threshold = _largest_with_fewer(lambda v: _total(b < v for b in bits), count, one)
    below = [b < threshold for b in bits]
    equal = [b == threshold for b in bits]
    wanted = count - _total(below)  # of the equal ones, by index

    def by_index(equal: list[jax.Array]) -> list[jax.Array]:
        index = _indices(equal)
        cut = _largest_with_fewer(
            lambda v: _total(e & (i < v) for e, i in zip(equal, index, strict=True)), wanted, jnp.int32(1)
        )
        return [e & (i <= cut) & (wanted > 0) for e, i in zip(equal, index, strict=True)]

    chosen = jax.lax.cond(_total(equal) == wanted, lambda e: e, by_index, equal)
    return [b | c for b, c in zip(below, chosen, strict=True)]


def _magnitude_bits(x: jax.Array) -> jax.Array:
    """i32, ordered as |x| is."""
    return jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.int32)


def _value_bits(x: jax.Array) -> jax.Array:
    """u32, ordered as x is; both zeros alike, every NaN last; comparing floats would flush subnormals."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    sign, magnitude = jnp.uint32(1 << 31), bits & jnp.uint32((1 << 31) - 1)
    positive = (bits < sign) | (magnitude == 0) | (magnitude > jnp.uint32(0x7F800000))
    return jnp.where(positive, magnitude | sign, ~bits)


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
        out.append(start + jnp.arange(a.size, dtype=jnp.int32).reshape(a.shape))
        start += a.size
    return out
