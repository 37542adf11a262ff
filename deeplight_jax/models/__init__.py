"""The models by name: a new one is a Linen module and one line in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from deeplight_jax.config import Config
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.layers.prunable import split_labels
from deeplight_jax.models.deepfwfm import DeepFwFM
from deeplight_jax.models.shallow import FM, LR, FwFM
from deeplight_jax.sparsity.components import Labels


def _embedded(config: Config) -> dict[str, Any]:
    return {"embedding_dim": config.model.embedding_dim, "embedding_std": config.model.embedding_std}


def _fwfm(config: Config) -> dict[str, Any]:
    return {
        **_embedded(config),
        "linear_field_weight": config.model.linear_field_weight,
        "field_matrix": config.model.field_matrix,
        "prune_linear": config.sparsity.prune_linear,
    }


def _deep(config: Config) -> dict[str, Any]:
    return {"hidden": tuple(config.model.hidden), "dropout_bits": config.model.dropout_bits}


MODELS: dict[str, Callable[[Config, Schema], nn.Module]] = {
    "lr": lambda config, schema: LR(schema),
    "fm": lambda config, schema: FM(schema, **_embedded(config)),
    "fwfm": lambda config, schema: FwFM(schema, **_fwfm(config)),
    "deepfwfm": lambda config, schema: DeepFwFM(schema, **_fwfm(config), **_deep(config)),
}


def build_model(config: Config, schema: Schema) -> nn.Module:
    """The configured model over a schema.

    Raises:
      ConfigError: no model has that name.
    """
    name = config.model.name
    if name not in MODELS:
        raise ConfigError(f"model.name={name!r} is not one of {', '.join(sorted(MODELS))}")
    return MODELS[name](config, schema)


def init_params(model: nn.Module, schema: Schema, key: jax.Array) -> tuple[Any, Labels]:
    """Fresh parameters (a nested dict of f32 arrays) and their component labels."""
    boxed = jax.jit(model.init)(key, *_one_row(schema))["params"]
    return split_labels(boxed)


def abstract_params(model: nn.Module, schema: Schema) -> tuple[Any, Labels]:
    """Shapes of the parameters (ShapeDtypeStruct) and their labels, without any memory."""
    boxed = jax.eval_shape(model.init, jax.random.key(0), *_one_row(schema))["params"]
    return split_labels(boxed)


def _one_row(schema: Schema) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros((1, len(schema.categorical)), jnp.int32), jnp.zeros((1, len(schema.numeric)))
