"""R as one number a pair, of each form it is stored in."""

import numpy as np
import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.evaluation.pair_weights import pair_weights
from deeplight_jax.models import build_model, init_params

SCHEMA = Schema((Field("x", "numeric", 1), *(Field(f"c{i}", "categorical", 4) for i in range(3))))


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({"model.name": "deepfwfm"}, lambda p, i, j, pair: p["fwfm"]["r"][pair]),
        (
            {"model.name": "fwfm", "model.field_matrix": "full"},
            lambda p, i, j, pair: (p["fwfm"]["r"][i, j] + p["fwfm"]["r"][j, i]) / 2,
        ),
        ({"model.name": "fmfm"}, lambda p, i, j, pair: np.linalg.norm(p["m"][pair])),
    ],
)
def test_every_form(settings, weight):
    import jax

    config = override(default_config(), {"model.hidden": (3,), "model.embedding_dim": 2, **settings})
    params, labels = init_params(build_model(config, SCHEMA), SCHEMA, jax.random.key(0))
    params = jax.tree.map(lambda p: np.random.default_rng(p.size).normal(size=p.shape), params)
    found = pair_weights(params, labels, SCHEMA)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    expected = [weight(params, i, j, pair) for pair, (i, j) in enumerate(pairs)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_model_without_field_pairs():
    import jax

    config = override(default_config(), {"model.name": "lr"})
    params, labels = init_params(build_model(config, SCHEMA), SCHEMA, jax.random.key(0))
    assert pair_weights(params, labels, SCHEMA) is None
