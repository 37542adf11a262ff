"""One flat table for all fields: numeric field i owns row i, categorical fields follow at their offsets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.data.schema import Schema
from deeplight_jax.layers.prunable import prunable


def look_up(table: jax.Array, offsets: jax.Array, ids: jax.Array, values: jax.Array) -> jax.Array:
    """Embeds a batch: e_f = table row of a category, or value times the one row of a numeric field.

    Args:
      table: f32[row, dim].
      offsets: i32[categorical], first table row of each categorical field.
      ids: i32[batch, categorical], within each field. Ids must be in range: JAX clamps what is past the
        table and would read another field's row, so check ids where they come from outside.
      values: f32[batch, numeric].

    Returns:
      f32[batch, field, dim], numeric fields first.
    """
    num_numeric = values.shape[-1]
    categorical = jnp.take(table, ids + offsets, axis=0, mode="clip")
    if num_numeric == 0:
        return categorical
    numeric = values[..., None] * table[:num_numeric]
    return jnp.concatenate([numeric, categorical], axis=-2)


class Embedding(nn.Module):
    """The embedding table over a schema's rows; component F by default.

    Attributes:
      schema: fields and their sizes.
      dim: k, values a row.
      stddev: of the normal initialisation (paper: 0.01).
      component: code that prunes the table, "" for none.
    """

    schema: Schema
    dim: int
    stddev: float = 0.01
    component: str = "embedding"

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array) -> jax.Array:
        """f32[batch, field, dim] of i32[batch, categorical] and f32[batch, numeric]."""
        init = prunable(nn.initializers.normal(self.stddev), self.component)
        table = self.param("table", init, (self.schema.num_rows, self.dim))
        return look_up(table, jnp.asarray(self.schema.offsets), ids, values)
