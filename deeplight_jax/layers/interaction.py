"""Field interactions as pure functions over embeddings e: f32[batch, field, dim]."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from deeplight_jax.data.schema import field_pairs


def linear_term(e: jax.Array, v: jax.Array, field_weight: jax.Array | None = None) -> jax.Array:
    """FwFM's linear term sum_f w_f <e_f, v_f> (Pan et al. 2018; w_f is the released program's, else 1).

    Args:
      e: f32[batch, field, dim].
      v: f32[field, dim], one vector a field.
      field_weight: f32[field] or None.

    Returns:
      f32[batch].
    """
    per_field = jnp.einsum("bfk,fk->bf", e, v)
    return jnp.sum(per_field if field_weight is None else per_field * field_weight, axis=-1)


def fm_pairs(e: jax.Array) -> jax.Array:
    """FM's sum_{i<j} <e_i, e_j> (Rendle 2010) in O(field dim), as half of (sum e)^2 - sum e^2; f32[batch]."""
    return 0.5 * jnp.sum(jnp.square(jnp.sum(e, axis=-2)) - jnp.sum(jnp.square(e), axis=-2), axis=-1)


def fwfm_pairs(e: jax.Array, r: jax.Array) -> jax.Array:
    """FwFM's sum_{i<j} R_ij <e_i, e_j> (Pan et al. 2018).

    Args:
      e: f32[batch, field, dim].
      r: f32[pair], in the order of `Schema.pairs`; or f32[field, field], of which 0.5(R_ij + R_ji) counts.

    Returns:
      f32[batch].

    Cost:
      One [field, field] product a row, field^2 dim multiply-adds, instead of a gather of pairs.
    """
    num_fields = e.shape[-2]
    first, second = field_pairs(num_fields)
    if r.ndim == 2:
        r = 0.5 * (r + r.T)[first, second]
    upper = jnp.zeros((num_fields, num_fields), r.dtype).at[first, second].set(r)
    return jnp.sum(jnp.einsum("bik,ij->bjk", e, upper) * e, axis=(-2, -1))
