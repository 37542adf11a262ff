"""Models with a deep net over the embeddings: Wide&Deep, DeepFM, NFM, PNN, DCN, DCN-V2, AutoInt, xDeepFM.

A model is given its layers, joins them, and owns the output bias. Each maps a batch to logits float[batch].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.layers.crossing import CIN, CrossNetwork, FieldAttention
from deeplight_jax.layers.embedding import Embedding
from deeplight_jax.layers.interaction import bi_interaction, first_order, fm_pairs, pair_products
from deeplight_jax.layers.mlp import MLP, output_unit
from deeplight_jax.models.shallow import output_bias


def joined(e: jax.Array) -> jax.Array:
    """The fields' values side by side: float[batch, field * dim] of float[batch, field, dim]."""
    return e.reshape(*e.shape[:-2], -1)


def hidden_kernels(tree: Mapping[str, Any]) -> list[Any]:
    """Kernels of the deep net's hidden layers, first layer first; none where a model has no deep net.

    `tree` is structured as the parameters of any of the models: parameters, masks, labels.
    """
    deep, layers = tree.get("deep", {}), []
    while (name := f"hidden_{len(layers)}") in deep:
        layers.append(deep[name]["kernel"])
    return layers


class WideDeep(nn.Module):
    """Wide&Deep (Cheng et al. 2016), without crossed features: LR + MLP(embeddings)."""

    weights: Embedding
    embedding: Embedding
    deep: MLP

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        return linear + self.deep(joined(self.embedding(ids, values)), dropout_rate)


class DeepFM(nn.Module):
    """DeepFM (Guo et al. 2017): FM + MLP over the same embeddings."""

    weights: Embedding
    embedding: Embedding
    deep: MLP

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        e = self.embedding(ids, values)
        return linear + fm_pairs(e) + self.deep(joined(e), dropout_rate)


class NFM(nn.Module):
    """Neural factorization machine: LR + MLP over pooled pairs (He and Chua 2017, eqs. 3-7).

    Attributes:
      weights, embedding, deep: its layers.
      pooling: "pooled": the sum over pairs of e_i * e_j; "pairwise": every <e_i, e_j>, as the released
        DeepLight program feeds its net (which then sums the last layer: `deep.output` = "sum").
    """

    weights: Embedding
    embedding: Embedding
    deep: MLP
    pooling: str = "pooled"

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        e = self.embedding(ids, values)
        pairs = bi_interaction(e) if self.pooling == "pooled" else pair_products(e)
        return linear + self.deep(pairs, dropout_rate)


class PNN(nn.Module):
    """Inner-product network IPNN (Qu et al. 2016): bias + MLP over embeddings and every <e_i, e_j>."""

    embedding: Embedding
    deep: MLP

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        e = self.embedding(ids, values)
        inputs = jnp.concatenate([joined(e), pair_products(e)], axis=-1)
        return self.deep(inputs, dropout_rate) + output_bias(self).astype(e.dtype)


class DCN(nn.Module):
    """Deep & Cross (Wang et al. 2017, 2021): bias + <w, (cross network, last hidden layer)>, side by side.

    Attributes:
      embedding, deep: its layers; `deep.output` = "none".
      cross: of vectors (DCN) or matrices (DCN-V2).
    """

    embedding: Embedding
    cross: CrossNetwork
    deep: MLP

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        x = joined(self.embedding(ids, values))
        both = jnp.concatenate([self.cross(x), self.deep(x, dropout_rate)], axis=-1)
        return output_unit(both) + output_bias(self).astype(x.dtype)


class AutoInt(nn.Module):
    """AutoInt (Song et al. 2019, eq. 9): bias + <w, attention over the fields>."""

    embedding: Embedding
    attention: FieldAttention

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        e = self.embedding(ids, values)
        return output_unit(joined(self.attention(e))) + output_bias(self).astype(e.dtype)


class XDeepFM(nn.Module):
    """xDeepFM (Lian et al. 2018, eq. 15): LR + <w, CIN(embeddings)> + MLP(embeddings)."""

    weights: Embedding
    embedding: Embedding
    cin: CIN
    deep: MLP

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array, dropout_rate: jax.Array | None = None) -> jax.Array:
        linear = first_order(self.weights(ids, values), output_bias(self))
        e = self.embedding(ids, values)
        return linear + output_unit(self.cin(e)) + self.deep(joined(e), dropout_rate)
