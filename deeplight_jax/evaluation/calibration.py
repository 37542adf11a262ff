"""Whether predicted probabilities come true: the reliability curve of a model's scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deeplight_jax.errors import DataError

_Z = 1.959964  # of a 95 % interval


class Reliability(NamedTuple):
    """Predicted against observed clicks, rows sorted by score and cut into bins of equal count.

    Attributes:
      predicted: f64[bin], mean predicted probability.
      observed: f64[bin], share of clicks.
      low, high: f64[bin], Wilson's 95 % interval of that share.
      rows: i64[bin].
      error: mean of |predicted - observed| over rows (expected calibration error).
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray
    error: float


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 20) -> Reliability:
    """The reliability curve of a split.

    Args:
      logits: f32[row], finite.
      labels: [row], 0 or 1.
      bins: at most so many; fewer where there are fewer rows.

    Raises:
      DataError: no row, or a logit that is not finite.
    """
    if not len(logits) or not np.isfinite(logits).all():
        raise DataError("a reliability curve needs rows, and finite logits")
    order = np.argsort(logits, kind="stable")
    z, clicked = logits[order].astype(np.float64), labels[order].astype(np.float64)
    probability = np.exp(np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z))))
    bins = min(bins, len(z))
    starts = np.arange(bins) * len(z) // bins
    rows = np.diff(np.append(starts, len(z)))
    predicted = np.add.reduceat(probability, starts) / rows
    observed = np.add.reduceat(clicked, starts) / rows
    centre, half = _wilson(observed, rows)
    error = float(np.sum(rows * np.abs(predicted - observed)) / len(z))
    return Reliability(predicted, observed, centre - half, centre + half, rows, error)


def _wilson(share: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half width of Wilson's score interval (1927) of a share of so many rows."""
    shrink = 1 + _Z**2 / rows
    half = _Z * np.sqrt(share * (1 - share) / rows + _Z**2 / (4.0 * rows**2)) / shrink
    return (share + _Z**2 / (2 * rows)) / shrink, half
