"""Layers that cross features explicitly: DCN's cross network, xDeepFM's CIN, AutoInt's attention.

Each computes in its input's dtype and declares its weights' component: cross, cin, attention.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.layers.prunable import prunable


class CrossNetwork(nn.Module):
    """x_{l+1} = x_0 (x_l^T w_l) + b_l + x_l (DCN: Wang et al. 2017, eq. 3), or DCN-V2's
    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (Wang et al. 2021, eq. 1).

    Attributes:
      layers: how many.
      matrix: DCN-V2's W_l [d, d] instead of DCN's w_l [d].
    """

    layers: int
    matrix: bool = False

    @nn.compact
    def __call__(self, x0: jax.Array) -> jax.Array:
        """float[batch, d] of float[batch, d]."""
        d, x = x0.shape[-1], x0
        init = prunable(nn.initializers.glorot_normal(), "cross")
        for layer in range(self.layers):
            kernel = self.param(f"kernel_{layer}", init, (d, d if self.matrix else 1)).astype(x.dtype)
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (d,)).astype(x.dtype)
            crossed = x0 * (x @ kernel + bias) if self.matrix else x0 * (x @ kernel) + bias
            x = crossed + x
        return x


class CIN(nn.Module):
    """xDeepFM's compressed interaction network (Lian et al. 2018, eq. 6), sum-pooled over the dimension.

    X^l_h = sum_ij W^l_hij (X^{l-1}_i * X^0_j), identity activation, no bias.

    Attributes:
      maps: feature maps H_l of each layer.
      split_half: all layers but the last send one half of their maps on and the other half to the output.
    """

    maps: tuple[int, ...]
    split_half: bool = True

    @nn.compact
    def __call__(self, e: jax.Array) -> jax.Array:
        """float[batch, map], the maps that reach the output, of float[batch, field, dim].

        Cost: a product tensor [batch, dim, H_{l-1} field] a layer.
        """
        x0 = jnp.swapaxes(e, -1, -2)
        x, out = x0, []
        for layer, maps in enumerate(self.maps):
            outer = x[..., :, None] * x0[..., None, :]
            outer = outer.reshape(*outer.shape[:-2], -1)
            init = prunable(nn.initializers.glorot_normal(), "cin")
            kernel = self.param(f"kernel_{layer}", init, (outer.shape[-1], maps))
            x = outer @ kernel.astype(outer.dtype)
            if self.split_half and layer < len(self.maps) - 1:
                x, direct = x[..., : maps // 2], x[..., maps // 2 :]
            else:
                direct = x
            out.append(jnp.sum(direct, axis=-2))
        return jnp.concatenate(out, axis=-1)


class FieldAttention(nn.Module):
    """AutoInt's interacting layers (Song et al. 2019, eqs. 5-8): multi-head self-attention over fields.

    Each head weighs fields by softmax <Q e_i, K e_j>, sums V e_j; heads are joined, the projected input is
    added, ReLU.

    Attributes:
      layers: how many.
      heads: attention heads.
      units: values a head.
    """

    layers: int
    heads: int
    units: int

    @nn.compact
    def __call__(self, e: jax.Array) -> jax.Array:
        """float[batch, field, heads * units] of float[batch, field, dim]."""
        width = self.heads * self.units
        for layer in range(self.layers):

            def project(name: str, x: jax.Array = e, layer: int = layer) -> jax.Array:
                init = prunable(nn.initializers.glorot_normal(), "attention")
                kernel = self.param(f"{name}_{layer}", init, (x.shape[-1], width))
                return x @ kernel.astype(x.dtype)

            query, key, value = (
                project(name).reshape(*e.shape[:-1], self.heads, self.units)
                for name in ("query", "key", "value")
            )
            scores = jnp.einsum("bihu,bjhu->bhij", query, key)
            attended = jnp.einsum("bhij,bjhu->bihu", jax.nn.softmax(scores, axis=-1), value)
            e = nn.relu(attended.reshape(*e.shape[:-1], width) + project("residual"))
        return e
