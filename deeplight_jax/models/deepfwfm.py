"""DeepFwFM (Deng et al. 2021): FwFM and a deep net over the same embeddings."""

from __future__ import annotations

import jax
from flax import linen as nn

from deeplight_jax.data.schema import Schema
from deeplight_jax.layers.embedding import Embedding
from deeplight_jax.layers.mlp import MLP
from deeplight_jax.models.shallow import FwFMTerms


class DeepFwFM(nn.Module):
    """logit = FwFM(e) + MLP(concatenated e), with one output bias.

    Attributes:
      schema: fields and their sizes.
      embedding_dim: k.
      hidden: units of each hidden layer.
      embedding_std: of the embeddings' normal initialisation.
      linear_field_weight, field_matrix, prune_linear: see `FwFMTerms`.
      dropout_bits: "hash" or "threefry".
    """

    schema: Schema
    embedding_dim: int
    hidden: tuple[int, ...]
    embedding_std: float = 0.01
    linear_field_weight: bool = True
    field_matrix: str = "pairs"
    prune_linear: bool = False
    dropout_bits: str = "hash"

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        """Logits f32[batch] of i32[batch, categorical] and f32[batch, numeric]."""
        e = Embedding(self.schema, self.embedding_dim, self.embedding_std, name="embedding")(ids, values)
        terms = FwFMTerms(self.linear_field_weight, self.field_matrix, self.prune_linear, name="fwfm")
        deep = MLP(self.hidden, self.dropout_bits, name="deep")
        return terms(e) + deep(e.reshape(*e.shape[:-2], -1), dropout_rate)
