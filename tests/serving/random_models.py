"""Small models with random projected parameters, and rows for them."""

from functools import cache

import jax
import numpy as np

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.models import abstract_params, build_model
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact


def schema_of(numeric, sizes):
    return Schema(
        (
            *(Field(f"x{i}", "numeric", 1) for i in range(numeric)),
            *(Field(f"c{i}", "categorical", size) for i, size in enumerate(sizes)),
        )
    )


MIXED, CATEGORICAL, NUMERIC = schema_of(2, (4, 3, 5)), schema_of(0, (4, 1, 6)), schema_of(3, ())
SCHEMAS = {"mixed": MIXED, "categorical": CATEGORICAL, "numeric": NUMERIC}
CASES = [
    ("lr", {}),
    ("fm", {}),
    ("fwfm", {}),
    ("fwfm", {"linear": "weights"}),
    ("fwfm", {"field_matrix": "full", "linear_field_weight": False}),
    ("widedeep", {}),
    ("deepfm", {}),
    ("nfm", {}),
    ("nfm", {"nfm_pooling": "pairwise"}),
    ("deepfwfm", {}),
    ("deepfwfm", {"hidden": (6,), "linear": "weights"}),
    ("deepfwfm", {"field_matrix": "full"}),
    ("deepfwfm", {"hidden": (5, 4, 6), "linear_field_weight": False}),
    ("deepfwfm", {"embedding_dim": 20}),
]


def config_of(name, **model):
    settings = {"embedding_dim": 3, "hidden": (7, 5), **model, "name": name}
    return override(default_config(), {f"model.{key}": value for key, value in settings.items()})


@cache
def shapes(name, schema, **model):
    return abstract_params(build_model(config_of(name, **model), schema), schema)


def random_params(name, schema, seed, kept, **model):
    """Normal parameters of which a share is kept: `kept` by component, "" for those never pruned."""
    rng = np.random.default_rng(seed)

    def draw(leaf, component):
        keep = rng.random(leaf.shape) < kept.get(component, 1.0)
        return np.asarray(rng.normal(size=leaf.shape) * 0.7 * keep, np.float32)

    params, labels = shapes(name, schema, **model)
    return jax.tree.map(draw, params, labels)


def random_rows(schema, rows, seed):
    rng = np.random.default_rng(seed)
    ids = np.zeros((rows, len(schema.categorical)), np.int32)
    for column, field in enumerate(schema.categorical):
        ids[:, column] = rng.integers(0, field.size, rows)
    values = rng.normal(size=(rows, len(schema.numeric))) * (rng.random((rows, len(schema.numeric))) < 0.8)
    return ids, values.astype(np.float32)


def artifact_of(name="deepfwfm", schema=MIXED, **model):
    """A half-pruned model as it would be loaded."""
    params = random_params(name, schema, 0, {"dnn": 0.5, "embedding": 0.7, "field": 0.5}, **model)
    settings = config_of(name, **model).model
    return Artifact(compact(settings, schema, params), {"model": settings.to_dict()}, {})
