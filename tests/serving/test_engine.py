"""The engine: probabilities of checked rows; bad rows are named, never scored."""

import math

import numpy as np
import pytest
from levels import NATIVE_LEVELS
from oracle import oracle
from random_models import CATEGORICAL, MIXED, NUMERIC, config_of, random_params, random_rows

from deeplight_jax.errors import DataError
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build


@pytest.fixture(params=["numpy", *NATIVE_LEVELS])
def level(request):
    return request.param


def engine_of(level, schema=MIXED, name="deepfwfm", seed=0):
    params = random_params(name, schema, seed, {"dnn": 0.5, "embedding": 0.7, "field": 0.5})
    return build(Artifact(compact(config_of(name).model, schema, params), {}, {}), level), params


def test_scores_are_the_probabilities_of_the_logits(level):
    engine, params = engine_of(level)
    ids, values = random_rows(MIXED, 50, 3)
    scores = engine.score(ids, values)
    wanted = [1 / (1 + math.exp(-z)) for z in oracle("deepfwfm", MIXED, params, ids, values)]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-6)


def test_extreme_logits_stay_probabilities(level):
    engine, _ = engine_of(level, name="lr", schema=NUMERIC)
    values = np.full((2, 3), 1e30, np.float32) * np.array([[1], [-1]], np.float32)
    scores = engine.score(np.zeros((2, 0), np.int32), values)
    assert sorted(scores.tolist()) == [0.0, 1.0]


def test_one_row_many_rows_and_strided_rows_agree(level):
    engine, _ = engine_of(level)
    ids, values = random_rows(MIXED, 5000, 5)  # more than one chunk
    together = engine.logits(ids, values)
    alone = [engine.logits(ids[i : i + 1], values[i : i + 1])[0] for i in range(0, 5000, 499)]
    np.testing.assert_allclose(together[::499], alone, rtol=1e-5, atol=1e-5)
    backwards = engine.logits(ids[::-1], values[::-1])
    np.testing.assert_allclose(backwards, together[::-1], rtol=1e-5, atol=1e-5)
    wide = np.asfortranarray(ids), np.asfortranarray(values)
    np.testing.assert_allclose(engine.logits(*wide), together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schema", [MIXED, CATEGORICAL, NUMERIC])
def test_an_empty_batch_gives_no_scores(schema, level):
    engine, _ = engine_of(level, schema)
    scores = engine.score(*random_rows(schema, 0, 0))
    assert (scores.shape, scores.dtype) == ((0,), np.float32)


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("row", [0, 40])
def test_an_id_outside_its_field_is_named(bad, row, level):
    engine, _ = engine_of(level)
    ids, values = random_rows(MIXED, 41, 0)
    ids[row, 1] = bad
    with pytest.raises(
        DataError, match=rf"row {row}, field c1: id {bad} is outside 0 to 2; .*0 is the unknown"
    ):
        engine.score(ids, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad, level):
    engine, _ = engine_of(level)
    ids, values = random_rows(MIXED, 70, 0)
    values[69, 1] = bad
    with pytest.raises(DataError, match=rf"row 69, field x1: {bad} is not finite"):
        engine.score(ids, values)


def test_values_too_large_for_float32_are_named_not_scored(level):
    engine, _ = engine_of(level, name="fwfm")
    ids, values = random_rows(MIXED, 3, 0)
    values[1] = np.float32(3e38), np.float32(-3e38)
    values[2] = 0
    try:
        scores = engine.score(ids, values)
    except DataError as error:
        assert "row 1" in str(error)  # noqa: PT017 (either outcome is right, by the sign of the weights)
    else:
        assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda i, v: (i.astype(np.int64), v), "ids must be a NumPy array of int32, not int64"),
        (lambda i, v: (i, v.astype(np.float64)), "values must be a NumPy array of float32, not float64"),
        (lambda i, v: (i.tolist(), v), "ids must be a NumPy array of int32, not list"),
        (lambda i, v: (i[:, :2], v), r"ids has shape \[4, 2\], it must be \[row, 3\]"),
        (lambda i, v: (i[0], v), r"ids has shape \[3\]"),
        (lambda i, v: (i, v[..., None]), r"values has shape \[4, 2, 1\], it must be \[row, 2\]"),
        (lambda i, v: (i, v[:3]), "ids has 4 rows and values 3"),
        (lambda i, v: (i.astype(">i4"), v), "ids must be"),
    ],
)
def test_wrong_arrays_are_named(change, named, level):
    engine, _ = engine_of(level)
    with pytest.raises(DataError, match=named):
        engine.score(*change(*random_rows(MIXED, 4, 0)))
