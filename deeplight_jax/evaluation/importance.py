"""What a model loses without a field: ROC AUC when the field's values are shuffled among rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from deeplight_jax.data.loader import permuted
from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Schema
from deeplight_jax.evaluation.evaluate import Progress, predict_logits
from deeplight_jax.evaluation.metrics import roc_auc

_BATCH_ROWS = 16_384  # rows a forward pass: a large sample does not need its activations at once


class FieldLoss(NamedTuple):
    """ROC AUC that one field is worth to a model.

    Attributes:
      field: its name.
      loss: ROC AUC of the rows as they are minus the mean ROC AUC with the field shuffled.
      spread: standard deviation of the loss over shuffles.
    """

    field: str
    loss: float
    spread: float


def field_losses(
    model: nn.Module,
    params: Any,
    schema: Schema,
    split: Split,
    *,
    rows: int = 10_000,
    shuffles: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[FieldLoss]:
    """Permutation importance (Breiman 2001) of every field on a random sample of a split.

    Args:
      model: any module of `models`.
      params: its parameters, projected if the model is pruned.
      schema: fields of the split.
      split: rows to sample from; use the validation split.
      rows: of the sample; the whole split if it is smaller.
      shuffles: of each field.
      seed: of the sample and the shuffles.
      progress: called after each field.

    Returns:
      One a field, in the schema's order.

    Raises:
      DataError: the sample has clicks or non-clicks only.

    Cost:
      fields * shuffles + 1 forward passes over the sample.
    """
    sample = _sample(split, rows, seed)
    base = _area(model, params, sample)
    rng = np.random.default_rng([seed, 1])
    orders = [rng.permutation(sample.rows) for _ in range(shuffles)]
    found = []
    for index, field in enumerate(schema.fields):
        losses = [base - _area(model, params, _shuffled(sample, index, order)) for order in orders]
        found.append(FieldLoss(field.name, float(np.mean(losses)), float(np.std(losses))))
        if progress:
            progress("shuffling fields", index + 1, schema.num_fields)
    return found


def _sample(split: Split, rows: int, seed: int) -> Split:
    """Rows drawn without replacement, in the split's order."""
    chosen = np.sort(permuted(np.arange(min(rows, split.rows)), split.rows, seed, 0))
    return Split(*(np.asarray(part[chosen]) for part in (split.ids, split.values, split.label)))


def _shuffled(sample: Split, field: int, order: np.ndarray) -> Split:
    """The sample with one field's column in another order; numeric fields come first."""
    numeric = sample.values.shape[1]
    ids, values = sample.ids, sample.values
    if field < numeric:
        values = values.copy()
        values[:, field] = values[order, field]
    else:
        ids = ids.copy()
        ids[:, field - numeric] = ids[order, field - numeric]
    return Split(ids, values, sample.label)


def _area(model: nn.Module, params: Any, sample: Split) -> float:
    logits = predict_logits(model, params, sample, min(sample.rows, _BATCH_ROWS))
    return roc_auc(logits, sample.label)
