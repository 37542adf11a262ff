"""Scores a split with a jitted forward pass and reports its metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from deeplight_jax.data.loader import eval_batches, steps_per_epoch
from deeplight_jax.data.prepared import Split
from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.metrics import Metrics, Sums, finish, sums

Progress = Callable[[str, int, int], None]  # what is done, how many of, how many in all


@functools.partial(jax.jit, static_argnums=0)
def _forward(model: nn.Module, params: Any, ids: jax.Array, values: jax.Array) -> jax.Array:
    logits: Any = model.apply({"params": params}, ids, values)
    return logits.astype(jnp.float32)


def predict_logits(
    model: nn.Module, params: Any, split: Split, batch_size: int, progress: Progress | None = None
) -> np.ndarray:
    """Logits of every row of a split, in order.

    Args:
      model: any module of `models`.
      params: its parameters, projected if the model is pruned.
      split: rows to score.
      batch_size: rows a forward pass; one compilation serves all, the last batch is padded.
      progress: called after each batch.

    Returns:
      f32[row].
    """
    return predict_each(model, [params], split, batch_size, progress)[0]


def predict_each(
    model: nn.Module,
    several: Sequence[Any],
    split: Split,
    batch_size: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Logits f32[model, row] of several parameters of one model; each batch is read once for all of them."""
    out = np.empty((len(several), split.rows), np.float32)
    total = steps_per_epoch(split.rows, batch_size)
    for i, batch in enumerate(eval_batches(split, batch_size)):
        start = i * batch_size
        rows = min(batch_size, split.rows - start)
        for logits, params in zip(out, several, strict=True):
            logits[start : start + rows] = np.asarray(_forward(model, params, batch.ids, batch.values))[:rows]
        if progress:
            progress("evaluating", i + 1, total)
    return out


def evaluate_split(
    model: nn.Module, params: Any, split: Split, batch_size: int, progress: Progress | None = None
) -> Metrics:
    """Metrics of a model on a split.

    Raises:
      DataError: a logit is not finite (the first such row is named), or the split has one class only.
    """
    return metrics_of(predict_logits(model, params, split, batch_size, progress), split)


def metrics_of(logits: np.ndarray, split: Split) -> Metrics:
    """Metrics of the logits f32[row] of a split's rows.

    Raises:
      DataError: a logit is not finite (the first such row is named), or the split has one class only.
    """
    if (bad := np.flatnonzero(~np.isfinite(logits))).size:
        raise DataError(f"{bad.size} logits are not finite, first at row {bad[0]}: the model has diverged")
    labels = np.asarray(split.label)
    step = 1 << 20
    parts = (sums(logits[i : i + step], labels[i : i + step]) for i in range(0, split.rows, step))
    return finish(sum(parts, Sums()), logits, labels)
