"""Metrics of click predictions: log loss and calibration as mergeable sums, exact ROC AUC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplight_jax.errors import DataError


@dataclass(frozen=True)
class Sums:
    """Sums that add up across batches, shards and hosts, in float64.

    Attributes:
      examples: rows.
      clicks: sum of labels.
      predicted: sum of predicted probabilities.
      loss: sum of -log p(label), nats.
    """

    examples: int = 0
    clicks: float = 0.0
    predicted: float = 0.0
    loss: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.examples + other.examples,
            self.clicks + other.clicks,
            self.predicted + other.predicted,
            self.loss + other.loss,
        )


@dataclass(frozen=True)
class Metrics:
    """What an evaluation reports.

    Attributes:
      roc_auc: exact area under the ROC curve, ties counted half.
      log_loss: mean negative log likelihood, nats a row.
      calibration_ratio: predicted clicks / observed clicks; 1 is calibrated.
      examples: rows evaluated.
    """

    roc_auc: float
    log_loss: float
    calibration_ratio: float
    examples: int

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def sums(logits: np.ndarray, labels: np.ndarray) -> Sums:
    """Sums over one batch: logits f32[row], labels 0 or 1 [row].

    The loss is log(1 + e^-|z|) + max(z, 0) - z y, exact for any finite logit.
    """
    z, y = logits.astype(np.float64), labels.astype(np.float64)
    tail = np.log1p(np.exp(-np.abs(z)))
    loss = tail + np.maximum(z, 0) - z * y
    probability = np.exp(np.minimum(z, 0) - tail)
    return Sums(len(z), float(y.sum()), float(probability.sum()), float(loss.sum()))


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Exact ROC AUC, ties counted half.

    Args:
      scores: f32[row], finite; logits rank as probabilities do, without their ties near 0 and 1.
      labels: [row], 0 or 1.

    Returns:
      Probability that a click scores above a non-click.

    Raises:
      DataError: labels of one class only, or a score that is not finite.

    Cost:
      One sort of 64-bit integers, (order-preserving score bits, label): about 70 ms a million rows.
    """
    if not np.isfinite(scores).all():
        raise DataError("a score is not finite; ROC AUC is undefined")
    positive = labels.astype(bool)
    clicks, rest = int(positive.sum()), int((~positive).sum())
    if not clicks or not rest:
        raise DataError(f"ROC AUC needs both classes; found {clicks} clicks and {rest} non-clicks")
    keys = np.sort(_ordered_bits(scores) << np.uint64(1) | positive)
    value, clicked = keys >> np.uint64(1), (keys & np.uint64(1)).astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], value[1:] != value[:-1]]))
    clicks_at = np.add.reduceat(clicked, starts)
    rest_at = np.diff(np.append(starts, len(keys))) - clicks_at
    rest_below = np.cumsum(rest_at) - rest_at
    below = np.sum(clicks_at * (2 * rest_below + rest_at), dtype=np.int64)  # exact below 2^63: 10^9 rows
    return int(below) / (2 * clicks * rest)


def finish(total: Sums, scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of a whole split.

    Raises:
      DataError: a metric is undefined (one class only, or a score that is not finite).
    """
    area = roc_auc(scores, labels)
    log_loss = total.loss / total.examples
    if not math.isfinite(log_loss):
        raise DataError("the log loss is not finite")
    return Metrics(area, log_loss, total.predicted / total.clicks, total.examples)


def _ordered_bits(scores: np.ndarray) -> np.ndarray:
    """u64, ordered as f32 scores are; -0 and +0 are one value."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)
    negative = bits >> 31 == 1
    return np.where(negative, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
