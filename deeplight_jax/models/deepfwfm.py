"""DeepFwFM (Deng et al. 2021): FwFM and a deep net over the same embeddings."""

from __future__ import annotations

import jax
from flax import linen as nn

from deeplight_jax.layers.embedding import Embedding
from deeplight_jax.layers.interaction import first_order
from deeplight_jax.layers.mlp import MLP
from deeplight_jax.models.deep import joined
from deeplight_jax.models.shallow import FwFMTerms


class DeepFwFM(nn.Module):
    """logit = FwFM(e) + MLP(e's fields side by side), with one output bias.

    Attributes:
      embedding, fwfm, deep: its layers.
      weights: first-order weights, where FwFM's linear term is made of them instead of field vectors.
    """

    embedding: Embedding
    fwfm: FwFMTerms
    deep: MLP
    weights: Embedding | None = None

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        """Logits float[batch] of i32[batch, categorical] and f32[batch, numeric]."""
        e = self.embedding(ids, values)
        logits = self.fwfm(e) + self.deep(joined(e), dropout_rate)
        return logits if self.weights is None else first_order(self.weights(ids, values), logits)
