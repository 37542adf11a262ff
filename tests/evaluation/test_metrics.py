"""Metrics against scikit-learn and against float64 loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss, roc_auc_score

from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.metrics import Sums, finish, roc_auc, sums

SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 3e38]) | st.floats(-50, 50, width=32)


@settings(deadline=None, max_examples=200)
@given(hnp.arrays(np.float32, st.integers(2, 60), elements=SCORES), st.randoms(use_true_random=False))
def test_roc_auc_equals_scikit_learn_with_ties(scores, random):
    labels = np.asarray([random.random() < 0.4 for _ in scores])
    labels[:2] = [True, False]
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 3, 8])
def test_roc_auc_on_many_rows(decimals):
    rng = np.random.default_rng(0)
    labels = rng.random(300_000) < 0.2
    scores = (rng.normal(size=labels.size) + labels).round(decimals).astype(np.float32)
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_roc_auc_by_hand():
    scores = np.asarray([0.1, 0.4, 0.4, 0.8], np.float32)
    assert roc_auc(scores, np.asarray([0, 0, 1, 1])) == 3.5 / 4  # one tie counts half
    assert roc_auc(scores, np.asarray([1, 1, 0, 0])) == 0.5 / 4


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_has_no_roc_auc(labels):
    with pytest.raises(DataError, match="needs both classes"):
        roc_auc(np.asarray([1.0, 2.0], np.float32), np.asarray(labels))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_never_reported(bad):
    with pytest.raises(DataError, match="not finite"):
        roc_auc(np.asarray([1.0, bad], np.float32), np.asarray([0, 1]))


def test_sums_equal_a_loop_and_merge():
    rng = np.random.default_rng(1)
    z, y = (rng.normal(size=500) * 30).astype(np.float32), (rng.random(500) < 0.3).astype(np.uint8)
    loss = predicted = 0.0
    for score, label in zip(z.tolist(), y.tolist(), strict=True):
        p = 1 / (1 + math.exp(-score))
        q = 1 / (1 + math.exp(score))  # 1 - p, without cancellation
        loss -= math.log(p) if label else math.log(q)
        predicted += p
    whole = sums(z, y)
    assert whole.loss == pytest.approx(loss, rel=1e-12)
    assert whole.predicted == pytest.approx(predicted, rel=1e-12)
    merged = sums(z[:123], y[:123]) + sums(z[123:], y[123:]) + Sums()
    assert (merged.examples, merged.clicks) == (whole.examples, whole.clicks) == (500, y.sum())
    assert merged.loss == pytest.approx(whole.loss, rel=1e-12)


def test_finish():
    rng = np.random.default_rng(2)
    z, y = rng.normal(size=1000).astype(np.float32), rng.random(1000) < 0.5
    metrics = finish(sums(z, y), z, y)
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    assert metrics.log_loss == pytest.approx(log_loss(y, p), rel=1e-9)
    assert metrics.calibration_ratio == pytest.approx(p.sum() / y.sum(), rel=1e-9)
    assert metrics.examples == 1000


def test_extreme_logits_keep_a_finite_loss():
    z = np.asarray([-3e38, 3e38, -200.0, 200.0], np.float32)
    assert np.isfinite(sums(z, np.asarray([1, 0, 1, 0])).loss)
    assert sums(z, np.asarray([0, 1, 0, 1])).loss == pytest.approx(0, abs=1e-80)
