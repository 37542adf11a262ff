"""The reliability curve against loops in float64."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.calibration import reliability


def oracle(logits, labels, bins):
    """Rows of each bin by sorting pairs, and Wilson's interval as roots of its quadratic."""
    rows = sorted(zip(map(float, logits), map(int, labels), strict=True), key=lambda row: row[0])
    bins = min(bins, len(rows))
    found = []
    for index in range(bins):
        start, stop = index * len(rows) // bins, (index + 1) * len(rows) // bins
        part = rows[start:stop]
        n, z = len(part), 1.959964
        predicted = math.fsum(1 / (1 + math.exp(-x)) for x, _ in part) / n
        p = sum(y for _, y in part) / n
        # (p - q)^2 = z^2 q (1 - q) / n
        a, b, c = 1 + z * z / n, -(2 * p + z * z / n), p * p
        root = math.sqrt(max(b * b - 4 * a * c, 0))
        found.append((predicted, p, (-b - root) / (2 * a), (-b + root) / (2 * a), n))
    return found


@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 25))
def test_it_is_the_oracles(seed, rows, bins):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, rows).astype(np.float32), rng.integers(0, 2, rows)
    found = reliability(logits, labels, bins)
    expected = oracle(logits, labels, bins)
    for column, name in enumerate(("predicted", "observed", "low", "high", "rows")):
        np.testing.assert_allclose(getattr(found, name), [row[column] for row in expected], atol=1e-7)
    error = math.fsum(n * abs(predicted - p) for predicted, p, _, _, n in expected) / rows
    assert found.error == pytest.approx(error, abs=1e-12)


def test_true_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1.5, 200_000).astype(np.float32)
    labels = rng.random(200_000) < 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = reliability(logits, labels)
    assert np.sum((found.low <= found.predicted) & (found.predicted <= found.high)) >= 17
    assert found.error < 0.005
    assert reliability(logits + 1, labels).error > 0.1


def test_extreme_logits_are_no_nan():
    found = reliability(np.array([-500, 500], np.float32), np.array([0, 1]))
    assert found.predicted.tolist() == pytest.approx([0, 1])
    assert found.error == pytest.approx(0)


@pytest.mark.parametrize("logits", [[], [0.0, np.nan], [np.inf]])
def test_what_has_no_curve(logits):
    with pytest.raises(DataError, match="needs rows, and finite logits"):
        reliability(np.array(logits, np.float32), np.zeros(len(logits)))
