"""The models by name: a new one is a Linen module of layers, and one line in `MODELS`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.config import Config
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ConfigError, nearest
from deeplight_jax.layers.crossing import CIN, CrossNetwork, FieldAttention
from deeplight_jax.layers.embedding import Embedding, HashedPairs
from deeplight_jax.layers.mlp import MLP, narrowed
from deeplight_jax.layers.prunable import split_labels
from deeplight_jax.layers.rows import Tables, rows_taken
from deeplight_jax.models.deep import DCN, NFM, PNN, AutoInt, DeepFM, WideDeep, XDeepFM
from deeplight_jax.models.deepfwfm import DeepFwFM
from deeplight_jax.models.shallow import FFM, FM, LR, FmFM, FwFM, FwFMTerms, Poly2
from deeplight_jax.sparsity.components import Labels


class Parts(NamedTuple):
    """The layers that models are made of, as a config and a schema want them."""

    config: Config
    schema: Schema

    def embedding(self, per_field: bool = False) -> Embedding:
        """k values a row; field * k if `per_field` (FFM)."""
        model = self.config.model
        dim = model.embedding_dim * (self.schema.num_fields if per_field else 1)
        return Embedding(self.schema, dim, model.embedding_std, dtype=model.compute_dtype)

    def weights(self, component: str = "") -> Embedding:
        """One value a row: first-order weights, beside a pruned table left unpruned."""
        return Embedding(self.schema, 1, 1e-4, component, self.config.model.compute_dtype)

    def pairs(self) -> HashedPairs:
        return HashedPairs(self.schema, self.config.model.hash_buckets, self.config.model.compute_dtype)

    def deep(self, output: str = "unit") -> MLP:
        return MLP(tuple(self.config.model.hidden), self.config.model.dropout_bits, output)

    def fwfm(self) -> FwFMTerms:
        model = self.config.model
        prune_linear = self.config.sparsity.prune_linear
        return FwFMTerms(model.linear, model.linear_field_weight, model.field_matrix, prune_linear)

    def fwfm_weights(self) -> Embedding | None:
        return self.weights() if self.config.model.linear == "weights" else None

    def nfm(self) -> NFM:
        pooling = self.config.model.nfm_pooling
        deep = self.deep("unit" if pooling == "pooled" else "sum")
        return NFM(self.weights(), self.embedding(), deep, pooling)

    def cross(self, matrix: bool) -> CrossNetwork:
        return CrossNetwork(self.config.model.cross_layers, matrix)

    def attention(self) -> FieldAttention:
        model = self.config.model
        return FieldAttention(model.attention_layers, model.attention_heads, model.attention_units)

    def cin(self) -> CIN:
        return CIN(tuple(self.config.model.cin), self.config.model.cin_split_half)


MODELS: dict[str, Callable[[Parts], nn.Module]] = {
    "lr": lambda p: LR(p.weights("embedding")),
    "poly2": lambda p: Poly2(p.weights(), p.pairs()),
    "fm": lambda p: FM(p.weights(), p.embedding()),
    "ffm": lambda p: FFM(p.weights(), p.embedding(per_field=True)),
    "fwfm": lambda p: FwFM(p.embedding(), p.fwfm(), p.fwfm_weights()),
    "fmfm": lambda p: FmFM(p.weights(), p.embedding()),
    "widedeep": lambda p: WideDeep(p.weights(), p.embedding(), p.deep()),
    "deepfm": lambda p: DeepFM(p.weights(), p.embedding(), p.deep()),
    "nfm": lambda p: p.nfm(),
    "pnn": lambda p: PNN(p.embedding(), p.deep()),
    "dcn": lambda p: DCN(p.embedding(), p.cross(matrix=False), p.deep("none")),
    "dcnv2": lambda p: DCN(p.embedding(), p.cross(matrix=True), p.deep("none")),
    "autoint": lambda p: AutoInt(p.embedding(), p.attention()),
    "xdeepfm": lambda p: XDeepFM(p.weights(), p.embedding(), p.cin(), p.deep()),
    "deepfwfm": lambda p: DeepFwFM(p.embedding(), p.fwfm(), p.deep(), p.fwfm_weights()),
}


def build_model(config: Config, schema: Schema) -> nn.Module:
    """The configured model over a schema.

    Raises:
      ConfigError: no model has that name, it needs more fields, or it has no net to make narrow.
    """
    name = check_name(config)
    if schema.num_fields < 2 and name != "lr":
        raise ConfigError(f"model {name} crosses fields, and the data has one; use model.name=lr")
    return MODELS[name](Parts(with_widths(config, schema), schema))


def check_name(config: Config) -> str:
    """The configured model's name.

    Raises:
      ConfigError: no model has that name.
    """
    name = config.model.name
    if name not in MODELS:
        known = ", ".join(sorted(MODELS))
        raise ConfigError(f"model.name={name!r} is not one of {known}{nearest(name, MODELS)}")
    return name


def with_widths(config: Config, schema: Schema) -> Config:
    """The config with `model.narrow` carried out on `model.hidden`: the model's own net decides.

    Raises:
      ConfigError: the model has no net to make narrow.
    """
    rate = config.model.narrow
    if not rate:
        return config
    wide = config.copy_and_resolve_references().unlock()
    wide.model.narrow = 0.0
    params, _ = abstract_params(build_model(wide, schema), schema)
    if "hidden_0" not in params.get("deep", {}):
        raise ConfigError(f"model.narrow={rate:g}, but model {config.model.name} has no hidden layer")
    inputs = params["deep"]["hidden_0"]["kernel"].shape[0]
    wide.model.hidden = narrowed(inputs, tuple(config.model.hidden), rate)
    return wide


def init_params(model: nn.Module, schema: Schema, key: jax.Array) -> tuple[Any, Labels]:
    """Fresh parameters (a nested dict of f32 arrays) and their component labels."""
    return split_labels(_jitted_init(model)(key, *_one_row(schema))["params"])


@functools.lru_cache(maxsize=16)  # of equal models one is traced
def _jitted_init(model: nn.Module) -> Any:
    return jax.jit(model.init)


@functools.lru_cache(maxsize=16)  # a sweep asks of each of its members, which share a model or two
def abstract_params(model: nn.Module, schema: Schema) -> tuple[Any, Labels]:
    """Shapes of the parameters (ShapeDtypeStruct) and their labels, without memory; read, never changed."""
    boxed = jax.eval_shape(model.init, jax.random.key(0), *_one_row(schema))["params"]
    return split_labels(boxed)


@functools.lru_cache(maxsize=16)
def row_tables(model: nn.Module, schema: Schema) -> Tables:
    """Paths of the parameters that the model reads by row: its tables."""
    params, _ = abstract_params(model, schema)
    return frozenset(jax.eval_shape(functools.partial(rows_taken, model), params, *_one_row(schema)))


def _one_row(schema: Schema) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros((1, len(schema.categorical)), jnp.int32), jnp.zeros((1, len(schema.numeric)))
