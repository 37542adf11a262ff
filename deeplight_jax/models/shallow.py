"""Models without a deep net: LR, Poly2, FM, FFM, FwFM, FmFM. Each maps a batch to logits float[batch].

A model is given its layers, joins them, and owns the output bias.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.layers.embedding import Embedding, HashedPairs
from deeplight_jax.layers.interaction import (
    ffm_pairs,
    first_order,
    fm_pairs,
    fmfm_pairs,
    fwfm_pairs,
    linear_term,
)
from deeplight_jax.layers.prunable import prunable


def output_bias(module: nn.Module) -> jax.Array:
    """The bias f32[] of a model's logit; never pruned."""
    return module.param("bias", nn.initializers.zeros, ())


class LR(nn.Module):
    """Logistic regression: bias + one weight a table row (component F, as its only table)."""

    weights: Embedding

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        return first_order(self.weights(ids, values), output_bias(self))


class Poly2(nn.Module):
    """LR + one weight for each pair of values, hashed (Chang et al. 2010; Juan et al. 2016, section 2.1)."""

    weights: Embedding
    pairs: HashedPairs

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        return first_order(self.weights(ids, values), output_bias(self)) + self.pairs(ids, values)


class FM(nn.Module):
    """Factorization machine (Rendle 2010): LR with unpruned weights + sum over pairs of <e_i, e_j>."""

    weights: Embedding
    embedding: Embedding

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        return linear + fm_pairs(self.embedding(ids, values))


class FFM(nn.Module):
    """Field-aware factorization machine (Juan et al. 2016): LR + sum over pairs of <e_{i,j}, e_{j,i}>.

    Attributes:
      weights: one value a row.
      embedding: field * k values a row, k for each field that the row may meet.
    """

    weights: Embedding
    embedding: Embedding

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        e = self.embedding(ids, values)
        batch, fields, _ = e.shape
        return linear + ffm_pairs(e.reshape(batch, fields, fields, -1))


class FwFMTerms(nn.Module):
    """Linear and pair terms of FwFM (Pan et al. 2018) over given embeddings, with the output bias.

    Attributes:
      linear: "field_vector": <e_f, v_f> (their FiLV); "weights": the model adds first-order weights (LW).
      linear_field_weight: one more weight a field on the linear term (released program).
      field_matrix: "pairs": R as n(n-1)/2 weights; "full": n x n, symmetrised (released program).
      prune_linear: whether D prunes v (released program).
    """

    linear: str = "field_vector"
    linear_field_weight: bool = False
    field_matrix: str = "pairs"
    prune_linear: bool = False

    @nn.compact
    def __call__(self, e: jax.Array) -> jax.Array:
        linear = self._field_vectors(e) if self.linear == "field_vector" else 0.0
        n = e.shape[-2]
        shape = (n, n) if self.field_matrix == "full" else (n * (n - 1) // 2,)
        r = self.param("r", prunable(nn.initializers.normal(1 / math.sqrt(n)), "field"), shape)
        return linear + fwfm_pairs(e, r) + output_bias(self).astype(e.dtype)

    def _field_vectors(self, e: jax.Array) -> jax.Array:
        n, k = e.shape[-2:]
        init_v = prunable(nn.initializers.normal(1 / math.sqrt(k)), "dnn" if self.prune_linear else "")
        v = self.param("v", init_v, (n, k))
        field_weight = (
            self.param("field_weight", nn.initializers.ones, (n,)) if self.linear_field_weight else None
        )
        return linear_term(e, v, field_weight)


class FwFM(nn.Module):
    """Field-weighted factorization machine (Pan et al. 2018); `weights` where its linear term wants them."""

    embedding: Embedding
    fwfm: FwFMTerms
    weights: Embedding | None = None

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        logits = self.fwfm(self.embedding(ids, values))
        return logits if self.weights is None else first_order(self.weights(ids, values), logits)


class FmFM(nn.Module):
    """Field-matrixed factorization machine (Sun et al. 2021): LR + sum over pairs of e_i M_ij e_j^T.

    The matrices M_ij start as the identity, that is, as FM; their entries are component R.
    """

    weights: Embedding
    embedding: Embedding

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        e = self.embedding(ids, values)
        n, k = e.shape[-2:]

        def identities(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jnp.broadcast_to(jnp.eye(k), shape)

        return linear + fmfm_pairs(
            e, self.param("m", prunable(identities, "field"), (n * (n - 1) // 2, k, k))
        )
