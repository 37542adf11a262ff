"""Field interactions as pure functions over embeddings e: float[batch, field, dim].

They compute in the embeddings' dtype: weights are cast to it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from deeplight_jax.data.schema import field_pairs


def first_order(weights: jax.Array, bias: jax.Array) -> jax.Array:
    """bias + sum of the weights of the values given: float[batch] of float[batch, field, 1].

    `bias` is f32[], or float[batch] logits that the weights join.
    """
    return jnp.sum(weights, axis=(-2, -1)) + bias.astype(weights.dtype)


def linear_term(e: jax.Array, v: jax.Array, field_weight: jax.Array | None = None) -> jax.Array:
    """FwFM's linear term sum_f w_f <e_f, v_f> (Pan et al. 2018; w_f is the released program's, else 1).

    Args:
      e: float[batch, field, dim].
      v: f32[field, dim], one vector a field.
      field_weight: f32[field] or None.

    Returns:
      float[batch].
    """
    per_field = jnp.einsum("bfk,fk->bf", e, v.astype(e.dtype))
    weighted = per_field if field_weight is None else per_field * field_weight.astype(e.dtype)
    return jnp.sum(weighted, axis=-1)


def bi_interaction(e: jax.Array) -> jax.Array:
    """Sum over pairs of e_i * e_j, elementwise (NFM, He and Chua 2017, eq. 4); float[batch, dim].

    As half of (sum e)^2 - sum e^2, in O(field dim).
    """
    return 0.5 * (jnp.square(jnp.sum(e, axis=-2)) - jnp.sum(jnp.square(e), axis=-2))


def fm_pairs(e: jax.Array) -> jax.Array:
    """FM's sum_{i<j} <e_i, e_j> (Rendle 2010); float[batch]."""
    return jnp.sum(bi_interaction(e), axis=-1)


def pair_products(e: jax.Array) -> jax.Array:
    """<e_i, e_j> of every pair (PNN's inner product layer, Qu et al. 2016); float[batch, pair].

    Pairs are in the order of `Schema.pairs`. Cost: one [field, field] product a row.
    """
    first, second = field_pairs(e.shape[-2])
    return jnp.einsum("bik,bjk->bij", e, e)[:, first, second]


def ffm_pairs(e: jax.Array) -> jax.Array:
    """FFM's sum_{i<j} <e_{i,j}, e_{j,i}> (Juan et al. 2016).

    Args:
      e: float[batch, field, field, dim], e[:, i, j] is what field i shows to field j.

    Returns:
      float[batch].
    """
    products = jnp.einsum("bijk,bjik->bij", e, e)
    return jnp.sum(jnp.triu(products, k=1), axis=(-2, -1))


def fmfm_pairs(e: jax.Array, m: jax.Array) -> jax.Array:
    """FmFM's sum_{i<j} e_i M_ij e_j^T (Sun et al. 2021).

    Args:
      e: float[batch, field, dim].
      m: f32[pair, dim, dim], in the order of `Schema.pairs`.

    Returns:
      float[batch].

    Cost:
      field^2 dim^2 / 2 multiply-adds a row, one field's pairs at a time.
    """
    n, k = e.shape[-2:]
    start, total = 0, jnp.zeros(e.shape[0], e.dtype)
    for i in range(n - 1):
        stop = start + n - 1 - i
        matrices = m[start:stop].astype(e.dtype)
        turned = e[:, i] @ jnp.moveaxis(matrices, 0, 1).reshape(k, -1)
        total += jnp.sum(turned * e[:, i + 1 :].reshape(turned.shape), axis=-1)
        start = stop
    return total


def fwfm_pairs(e: jax.Array, r: jax.Array) -> jax.Array:
    """FwFM's sum_{i<j} R_ij <e_i, e_j> (Pan et al. 2018).

    Args:
      e: float[batch, field, dim].
      r: f32[pair], in the order of `Schema.pairs`; or f32[field, field], of which 0.5(R_ij + R_ji) counts.

    Returns:
      float[batch].

    Cost:
      One [field, field] product a row, field^2 dim multiply-adds, instead of a gather of pairs.
    """
    num_fields = e.shape[-2]
    first, second = field_pairs(num_fields)
    if r.ndim == 2:
        r = 0.5 * (r + r.T)[first, second]
    upper = jnp.zeros((num_fields, num_fields), e.dtype).at[first, second].set(r.astype(e.dtype))
    return jnp.sum(jnp.einsum("bik,ij->bjk", e, upper) * e, axis=(-2, -1))
