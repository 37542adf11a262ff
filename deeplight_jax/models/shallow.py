"""Models without a deep net: LR, FM and FwFM. Each maps a batch to logits f32[batch]."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.data.schema import Schema
from deeplight_jax.layers.embedding import Embedding
from deeplight_jax.layers.interaction import fm_pairs, fwfm_pairs, linear_term
from deeplight_jax.layers.prunable import prunable


class LR(nn.Module):
    """Logistic regression: bias + one weight a table row (component F, as its only table)."""

    schema: Schema

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        weights = Embedding(self.schema, dim=1, stddev=1e-4, name="weights")(ids, values)
        return jnp.sum(weights, axis=(-2, -1)) + self.param("bias", nn.initializers.zeros, ())


class FM(nn.Module):
    """Factorization machine (Rendle 2010): LR with unpruned weights + sum over pairs of <e_i, e_j>."""

    schema: Schema
    embedding_dim: int
    embedding_std: float = 0.01

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        weights = Embedding(self.schema, dim=1, stddev=1e-4, component="", name="weights")(ids, values)
        e = Embedding(self.schema, self.embedding_dim, self.embedding_std, name="embedding")(ids, values)
        bias = self.param("bias", nn.initializers.zeros, ())
        return jnp.sum(weights, axis=(-2, -1)) + fm_pairs(e) + bias


class FwFMTerms(nn.Module):
    """Linear and pair terms of FwFM (Pan et al. 2018) over given embeddings, with the output bias.

    Attributes:
      linear_field_weight: one more weight a field on the linear term (released program).
      field_matrix: "pairs": R as n(n-1)/2 weights; "full": n x n, symmetrised (released program).
      prune_linear: whether D prunes v (released program).
    """

    linear_field_weight: bool = False
    field_matrix: str = "pairs"
    prune_linear: bool = False

    @nn.compact
    def __call__(self, e: jax.Array) -> jax.Array:
        n, k = e.shape[-2:]
        init_v = prunable(nn.initializers.normal(1 / math.sqrt(k)), "dnn" if self.prune_linear else "")
        v = self.param("v", init_v, (n, k))
        field_weight = (
            self.param("field_weight", nn.initializers.ones, (n,)) if self.linear_field_weight else None
        )
        shape = (n, n) if self.field_matrix == "full" else (n * (n - 1) // 2,)
        r = self.param("r", prunable(nn.initializers.normal(1 / math.sqrt(n)), "field"), shape)
        bias = self.param("bias", nn.initializers.zeros, ())
        return linear_term(e, v, field_weight) + fwfm_pairs(e, r) + bias


class FwFM(nn.Module):
    """Field-weighted factorization machine (Pan et al. 2018)."""

    schema: Schema
    embedding_dim: int
    embedding_std: float = 0.01
    linear_field_weight: bool = False
    field_matrix: str = "pairs"
    prune_linear: bool = False

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        e = Embedding(self.schema, self.embedding_dim, self.embedding_std, name="embedding")(ids, values)
        terms = FwFMTerms(self.linear_field_weight, self.field_matrix, self.prune_linear, name="fwfm")
        return terms(e)
