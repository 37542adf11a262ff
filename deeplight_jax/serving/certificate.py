"""The certificate: an engine's scores beside those of the JAX model that it was made from, row by row."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from deeplight_jax.config import override
from deeplight_jax.data.prepared import Prepared, Split
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ArtifactError
from deeplight_jax.evaluation.evaluate import Progress, predict_logits
from deeplight_jax.evaluation.metrics import roc_auc, sums
from deeplight_jax.models import build_model
from deeplight_jax.serving.engine import Engine
from deeplight_jax.serving.tables import EXACT
from deeplight_jax.training.inspect import Run

ROWS = 100_000  # compared, at least: of the data, and random ones where it has fewer
SINGLE_ROWS = 2_000  # of them scored alone, too
LIMIT = 1e-5  # of |engine - JAX| / max(1, |JAX|)
LOSSY_LIMIT = 5e-2  # the same, of tables whose format rounds values: bf16 and int8
LOSSY_ROC_AUC = 1e-3  # and by how much their test ROC AUC may differ


def certify(engine: Engine, run: Run, data: Prepared, progress: Progress | None = None) -> dict[str, Any]:
    """Compare an engine with its run's projected model, in float32 with full matrix precision.

    Args:
      engine: to be certified.
      run: the trained model.
      data: the run's own rows; test rows are taken first, then valid, then train.
      progress: called after each batch of the JAX model.

    Returns:
      Rows compared (`rows`, of which `real_rows`; `single_rows` alone), the largest and mean absolute error
      of a logit (`max_error`, `mean_error`), the largest relative one and its `limit`, and of the `test_rows`
      among them `roc_auc` and `log_loss` by JAX and by the engine (None where they are of one class), and the
      format of the `table`: where it rounds values the limit is `LOSSY_LIMIT`, not `LIMIT`.

    Raises:
      ArtifactError: a logit differs by more than the limit; the row and both logits are named.
        Or the test ROC AUC differs by more than `LOSSY_ROC_AUC`.
    """
    rows, real, test = certificate_rows(engine.schema, data)
    model = build_model(override(run.config, {"model.compute_dtype": "float32"}), run.schema)
    with jax.default_matmul_precision("highest"):
        wanted = predict_logits(model, run.params, rows, run.config.eval.batch_size, progress)
    found = engine.logits(rows.ids, rows.values)
    single = np.linspace(0, rows.rows - 1, SINGLE_ROWS).astype(int)
    alone = [engine.logits(rows.ids[i : i + 1], rows.values[i : i + 1]) for i in single]
    exact = engine.compact.table_format in EXACT
    limit = LIMIT if exact else LOSSY_LIMIT
    error = _errors(found, wanted, np.arange(rows.rows), limit)
    error = np.concatenate([error, _errors(np.concatenate(alone), wanted[single], single, limit)])
    labels = rows.label[:test]
    areas = _pair(_roc_auc, wanted[:test], found[:test], labels)
    if not exact:
        _check_areas(areas)
    return {
        "rows": rows.rows,
        "real_rows": real,
        "test_rows": test,
        "single_rows": SINGLE_ROWS,
        "limit": limit,
        "max_error": float(error.max()),
        "mean_error": float(error.mean()),
        "max_relative_error": float((error / np.maximum(1, np.abs(np.append(wanted, wanted[single])))).max()),
        "roc_auc": areas,
        "log_loss": _pair(_log_loss, wanted[:test], found[:test], labels),
        "path": engine.path,
        "table": engine.compact.table_format,
    }


def certificate_rows(schema: Schema, data: Prepared) -> tuple[Split, int, int]:
    """`ROWS` rows to compare on, how many of them are real and of the test split; those come first."""
    parts, left = [], ROWS
    for name in ("test", "valid", "train"):
        split = data.splits.get(name)
        if split is None or not split.rows or not left:
            continue
        chosen = np.linspace(0, split.rows - 1, min(left, split.rows)).astype(int)  # all over the split
        parts.append(Split(split.ids[chosen], split.values[chosen], split.label[chosen]))
        left -= len(chosen)
    if left:
        parts.append(_random_rows(schema, parts, left))
    joined = Split(*(np.concatenate([getattr(p, a) for p in parts]) for a in ("ids", "values", "label")))
    test = data.splits["test"].rows if "test" in data.splits else 0
    return joined, ROWS - left, min(test, ROWS)


def _check_areas(areas: dict[str, float | None]) -> None:
    jax_area, found = areas["jax"], areas["engine"]
    if jax_area is not None and found is not None and abs(jax_area - found) > LOSSY_ROC_AUC:
        raise ArtifactError(
            f"the certificate fails: test ROC AUC is {jax_area:.6f} by JAX and {found:.6f} by the engine; "
            f"they may differ by {LOSSY_ROC_AUC:g}; export it with --table packed or f32"
        )


def _errors(found: np.ndarray, wanted: np.ndarray, rows: np.ndarray, limit: float = LIMIT) -> np.ndarray:
    """|found - wanted|, all within the limit."""
    error = np.abs(found - wanted)
    over = ~(error <= limit * np.maximum(1, np.abs(wanted)))  # NaN is over it, too
    if over.any():
        worst = int(np.argmax(np.where(np.isnan(error), np.inf, error) * over))
        raise ArtifactError(
            f"the certificate fails on {over.sum()} rows: row {rows[worst]} has logit {wanted[worst]:.7g} by "
            f"JAX and {found[worst]:.7g} by the engine, which may differ by {limit:g} of max(1, |logit|)"
        )
    return error


def _random_rows(schema: Schema, real: list[Split], rows: int) -> Split:
    """Uniform ids; values drawn column by column from the real ones, or normal where there are none."""
    rng = np.random.default_rng(0)
    sizes = [f.size for f in schema.categorical]
    ids = rng.integers(0, sizes, (rows, len(sizes)), dtype=np.int32)
    values = rng.standard_normal((rows, len(schema.numeric)), dtype=np.float32)
    if real:
        seen = np.concatenate([part.values for part in real])
        picks = rng.integers(0, len(seen), values.shape)
        values = np.take_along_axis(seen, picks, axis=0)
    return Split(ids, values, np.zeros(rows, np.uint8))


def _pair(metric: Any, jax_logits: np.ndarray, engine_logits: np.ndarray, labels: np.ndarray) -> Any:
    return {"jax": metric(jax_logits, labels), "engine": metric(engine_logits, labels)}


def _roc_auc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    return roc_auc(logits, labels) if 0 < labels.sum() < len(labels) else None


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float | None:
    total = sums(logits, labels)
    return total.loss / total.examples if total.examples else None
