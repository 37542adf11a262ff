"""Evaluation of a split: every row once, whatever the batch size; one compilation."""

import jax
import numpy as np
import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.accounting import sparsity_report
from deeplight_jax.evaluation.evaluate import _forward, evaluate_split, predict_logits
from deeplight_jax.models import build_model, init_params

SCHEMA = Schema((Field("x", "numeric", 1), Field("a", "categorical", 9), Field("b", "categorical", 5)))


def make(rows=101):
    rng = np.random.default_rng(0)
    split = Split(
        ids=np.stack([rng.integers(0, f.size, rows) for f in SCHEMA.categorical], 1).astype(np.int32),
        values=rng.normal(size=(rows, 1)).astype(np.float32),
        label=(rng.random(rows) < 0.4).astype(np.uint8),
    )
    model = build_model(
        override(default_config(), {"model.hidden": (6,), "model.embedding_std": 0.5}), SCHEMA
    )
    params, labels = init_params(model, SCHEMA, jax.random.key(0))
    return model, params, labels, split


@pytest.mark.parametrize("batch_size", [1, 10, 101, 4096])
def test_metrics_do_not_depend_on_the_batch_size(batch_size):
    model, params, _, split = make()
    direct = np.asarray(model.apply({"params": params}, split.ids, split.values))
    np.testing.assert_allclose(predict_logits(model, params, split, batch_size), direct, rtol=1e-5, atol=1e-6)
    whole = evaluate_split(model, params, split, 101)
    found = evaluate_split(model, params, split, batch_size)
    assert found.examples == 101
    assert found.roc_auc == pytest.approx(whole.roc_auc, abs=1e-3)
    assert found.log_loss == pytest.approx(whole.log_loss, rel=1e-6)


def test_one_compilation_serves_all_batches():
    model, params, _, split = make(95)
    before = _forward._cache_size()
    predict_logits(model, params, split, 20)
    assert _forward._cache_size() - before == 1


def test_a_diverged_model_is_an_error_that_names_the_row():
    model, params, _, split = make()
    table = np.asarray(params["embedding"]["table"]).copy()
    table[1 + split.ids[7, 0]] = np.nan
    params["embedding"]["table"] = table
    first = int(np.flatnonzero(split.ids[:, 0] == split.ids[7, 0])[0])
    with pytest.raises(DataError, match=f"first at row {first}: the model has diverged"):
        evaluate_split(model, params, split, 16)


def test_report_counts_values_and_bytes():
    _, params, labels, _ = make()
    total = sum(p.size for p in jax.tree.leaves(params))
    dense = sparsity_report(params, labels, {})
    assert dense["params_total"] == total
    assert dense["bytes"] == 4 * total
    assert set(dense["components"]) == {"dnn", "field", "embedding"}
    table = np.array(params["embedding"]["table"])
    table[:5] = 0
    report = sparsity_report({**params, "embedding": {"table": table}}, labels, {"embedding": 0.3})
    part = report["components"]["embedding"]
    assert part["nonzero"] == table.size - 50
    assert part["rate"] == pytest.approx(50 / table.size)
    assert part["target"] == 0.3
    assert report["params_nonzero"] == dense["params_nonzero"] - 50
    assert report["bytes"] == dense["bytes"] - 4 * 50 + -(-table.size // 8)
