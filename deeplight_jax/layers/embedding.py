"""One flat table for all fields: numeric field i owns row i, categorical fields follow at their offsets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.data.schema import Schema, field_pairs
from deeplight_jax.layers.prunable import prunable
from deeplight_jax.layers.rows import given_rows
from deeplight_jax.layers.split_table import take_first, take_rows


def look_up(table: jax.Array, offsets: jax.Array, ids: jax.Array, values: jax.Array) -> jax.Array:
    """Embeds a batch: e_f = table row of a category, or value times the one row of a numeric field.

    On a mesh (`Placement.jit`) rows come from the devices that hold them.

    Args:
      table: f32[row, dim].
      offsets: i32[categorical], first table row of each categorical field.
      ids: i32[batch, categorical], within each field. Ids must be in range: JAX clamps what is past the
        table and would read another field's row, so check ids where they come from outside.
      values: f32[batch, numeric].

    Returns:
      f32[batch, field, dim], numeric fields first.
    """
    return embed(take_first(table, values.shape[-1]), take_rows(table, ids + offsets), values)


def embed(numeric: jax.Array, categorical: jax.Array, values: jax.Array) -> jax.Array:
    """f32[batch, field, dim] of f32[numeric, dim], f32[batch, categorical, dim] and f32[batch, numeric]."""
    if values.shape[-1] == 0:
        return categorical
    return jnp.concatenate([values[..., None] * numeric, categorical], axis=-2)


def hash_pairs(rows: jax.Array, buckets: int) -> jax.Array:
    """Poly2's hashing trick: a bucket for each unordered pair of table rows of an example.

    Args:
      rows: i32[batch, field], row of the embedding table that each field is on.
      buckets: H, at most 2^31 - 1.

    Returns:
      i32[batch, pair] in [0, H), pairs in the order of `Schema.pairs`.
    """
    first, second = field_pairs(rows.shape[-1])
    a, b = rows[..., first].astype(jnp.uint32), rows[..., second].astype(jnp.uint32)
    mixed = _mix(_mix(a * jnp.uint32(0x9E3779B1) + jnp.uint32(0x85EBCA6B)) ^ b)
    return (mixed % jnp.uint32(buckets)).astype(jnp.int32)


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's 32-bit finaliser of u32[...]."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


class Embedding(nn.Module):
    """The embedding table over a schema's rows; component F by default.

    Attributes:
      schema: fields and their sizes.
      dim: k, values a row.
      stddev: of the normal initialisation (paper: 0.01).
      component: code that prunes the table, "" for none.
      dtype: of what is looked up, and so of everything computed from it; the table stays float32.
    """

    schema: Schema
    dim: int
    stddev: float = 0.01
    component: str = "embedding"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array) -> jax.Array:
        """dtype[batch, field, dim] of i32[batch, categorical] and f32[batch, numeric]."""
        init = prunable(nn.initializers.normal(self.stddev), self.component)
        table = self.param("table", init, (self.schema.num_rows, self.dim))
        offsets = jnp.asarray(self.schema.offsets)
        own = jnp.arange(values.shape[-1], dtype=jnp.int32)
        given = given_rows(self, "table", own, ids + offsets)
        if given is None:
            return look_up(table, offsets, ids, values).astype(self.dtype)
        numeric, categorical = given
        return embed(numeric, categorical, values).astype(self.dtype)


class HashedPairs(nn.Module):
    """One weight for each pair of values, in H shared buckets; numeric fields scale their pairs.

    Attributes:
      schema: fields and their sizes.
      buckets: H.
      dtype: of the sum.
    """

    schema: Schema
    buckets: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array) -> jax.Array:
        """dtype[batch], sum over pairs of w_hash(i,j) x_i x_j."""
        init = prunable(nn.initializers.normal(1e-4), "embedding")
        weights = self.param("table", init, (self.buckets,))
        batch, numeric = values.shape
        own = jnp.broadcast_to(jnp.arange(numeric, dtype=jnp.int32), (batch, numeric))
        rows = jnp.concatenate([own, ids + jnp.asarray(self.schema.offsets)], axis=-1)
        x = jnp.concatenate([values, jnp.ones(ids.shape, values.dtype)], axis=-1)
        first, second = field_pairs(self.schema.num_fields)
        buckets = hash_pairs(rows, self.buckets)
        given = given_rows(self, "table", buckets)
        read = jnp.take(weights, buckets, mode="clip") if given is None else given[0]
        return jnp.sum(read * x[:, first] * x[:, second], axis=-1).astype(self.dtype)
