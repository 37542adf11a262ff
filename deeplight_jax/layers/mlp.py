"""The deep net: ReLU layers with prunable kernels (D), dropout before each, one output unit without bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.layers.prunable import prunable


def hash_bits(seed: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Counter-based random bits: MurmurHash3's 32-bit finaliser over index * odd + seed, twice keyed.

    A hundredth of threefry's cost on a CPU, and good enough to drop units with; not for sampling.

    Args:
      seed: u32[2].
      shape: at most 2^32 entries.

    Returns:
      u32[shape].
    """
    x = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    x = x * jnp.uint32(0x9E3779B1) + seed[0]
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35) + seed[1]
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    return x ^ (x >> 15)


def drop_units(x: jax.Array, rate: jax.Array, bits: jax.Array) -> jax.Array:
    """Inverted dropout: zero where bits / 2^32 < rate, the rest divided by 1 - rate.

    Args:
      x: float[...].
      rate: f32[] in [0, 1), may be traced.
      bits: u32[...], uniform.
    """
    threshold = (rate * 2.0**32).astype(jnp.uint32)
    return jnp.where(bits >= threshold, x / (1.0 - rate).astype(x.dtype), jnp.zeros_like(x))


class Dropout(nn.Module):
    """Dropout at a traced rate, from the "dropout" rng; `bits` is "hash" or "threefry"."""

    bits: str = "hash"

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array | None) -> jax.Array:
        if rate is None:
            return x
        key = self.make_rng("dropout")
        if self.bits == "hash":
            bits = hash_bits(jax.random.bits(key, (2,), jnp.uint32), x.shape)
        else:
            bits = jax.random.bits(key, x.shape, jnp.uint32)
        return drop_units(x, rate, bits)


class Dense(nn.Module):
    """x W + b in x's dtype, with a Glorot-normal kernel that belongs to a component ("" = never pruned)."""

    units: int
    component: str = "dnn"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = prunable(nn.initializers.glorot_normal(), self.component)
        y = x @ self.param("kernel", init, (x.shape[-1], self.units)).astype(x.dtype)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.units,)).astype(x.dtype)


class MLP(nn.Module):
    """Hidden layers, and what becomes of the last one; dropout on the input and on each hidden layer.

    Biases and the output unit's weights are never pruned; the model owns the one output bias.

    Attributes:
      hidden: units of each hidden layer.
      dropout_bits: "hash" or "threefry".
      output: "unit": one output unit without bias; "sum": the last layer summed up (the released NFM);
        "none": the last layer itself.
    """

    hidden: tuple[int, ...]
    dropout_bits: str = "hash"
    output: str = "unit"

    @nn.compact
    def __call__(self, x: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        """float[batch] of float[batch, input], or float[batch, hidden] if `output` is "none".

        `dropout_rate` None means no dropout.
        """
        x = Dropout(self.dropout_bits, name="dropout_0")(x, dropout_rate)
        for i, units in enumerate(self.hidden):
            x = nn.relu(Dense(units, name=f"hidden_{i}")(x))
            x = Dropout(self.dropout_bits, name=f"dropout_{i + 1}")(x, dropout_rate)
        if self.output == "none":
            return x
        if self.output == "sum":
            return jnp.sum(x, axis=-1)
        return output_unit(x)


def narrowed(inputs: int, hidden: tuple[int, ...], rate: float) -> tuple[int, ...]:
    """Widths of the dense net that has as many parameters as the wide one pruned to `rate`; none below 1.

    All layers shrink by one factor; biases and the output unit are not pruned, so they count in full (the
    paper's Table 4, N-X).

    Args:
      inputs: values that the first layer reads.
      hidden: units of the wide net's layers.
      rate: in [0, 1).
    """

    def size(widths: tuple[int, ...], kept: float = 1.0) -> float:
        weights = sum(a * b for a, b in pairwise((inputs, *widths)))
        return weights * kept + sum(widths) + widths[-1]

    wanted, first = size(hidden, 1 - rate), hidden[0]
    candidates = (tuple(max(1, round(h * w / first)) for h in hidden) for w in range(1, first + 1))
    return min(candidates, key=lambda widths: abs(size(widths) - wanted))


def output_unit(x: jax.Array) -> jax.Array:
    """float[batch], <w, x> with weights that are never pruned; call it inside a compact module."""
    return Dense(1, component="", use_bias=False, name="output")(x)[..., 0]
