"""Scores a split with a jitted forward pass and reports its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from deeplight_jax.data.loader import WHOLE, eval_batches, steps_per_epoch
from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Batch, Schema
from deeplight_jax.errors import DataError
from deeplight_jax.evaluation.metrics import Metrics, Sums, finish, sums
from deeplight_jax.mesh import Placement, fit
from deeplight_jax.models import abstract_params

Progress = Callable[[str, int, int], None]  # what is done, how many of, how many in all


class Scorer(NamedTuple):
    """How a forward pass is carried out.

    Attributes:
      forward: `(params, batch) -> logits f32[batch]`, of the rows of the whole batch.
      batch_size: rows a forward pass; one compilation serves all, the last batch is padded.
      part: rows of each batch that this host reads.
    """

    forward: Callable[[Any, Batch], jax.Array]
    batch_size: int
    part: slice = WHOLE


def make_scorer(model: nn.Module, schema: Schema, batch_size: int, place: Placement | None = None) -> Scorer:
    """The forward pass over a placement's devices; of parameters held as the placement holds them.

    Rows of a pass are made a multiple of the devices.
    """
    if place is None or place.mesh is None:
        return Scorer(partial(_score, model), batch_size)
    size = -(-batch_size // place.devices) * place.devices
    forward = _forward_on(place, model, schema)
    return Scorer(
        lambda params, batch: forward(params, place.batch(batch, size)), size, place.rows_here(size)
    )


@lru_cache(maxsize=4)  # an evaluation each epoch, one compilation
def _forward_on(place: Placement, model: nn.Module, schema: Schema) -> Any:
    like, _ = abstract_params(model, schema)
    return place.jit(
        lambda params, batch: _logits(model, fit(params, like), batch.ids, batch.values),
        (place.shardings(like), place.over_batch),
        place.everywhere,
    )


def _score(model: nn.Module, params: Any, batch: Batch) -> jax.Array:
    return _forward(model, params, batch.ids, batch.values)


def _logits(model: nn.Module, params: Any, ids: jax.Array, values: jax.Array) -> jax.Array:
    logits: Any = model.apply({"params": params}, ids, values)
    return logits.astype(jnp.float32)


_forward = jax.jit(_logits, static_argnums=0)


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
    return score_each(Scorer(partial(_score, model), batch_size), several, split, progress)


def score_each(
    scorer: Scorer, several: Sequence[Any], split: Split, progress: Progress | None = None
) -> np.ndarray:
    """`predict_each` by a scorer; on several hosts each has every row's logits."""
    batch_size = scorer.batch_size
    out = np.empty((len(several), split.rows), np.float32)
    total = steps_per_epoch(split.rows, batch_size)
    for i, batch in enumerate(eval_batches(split, batch_size, scorer.part)):
        start = i * batch_size
        rows = min(batch_size, split.rows - start)
        for logits, params in zip(out, several, strict=True):
            logits[start : start + rows] = np.asarray(scorer.forward(params, batch))[:rows]
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
