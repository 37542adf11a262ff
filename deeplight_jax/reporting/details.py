"""What a report says of one run, computed from its weights and the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.config import COMPONENT_LETTERS
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import DeeplightError
from deeplight_jax.evaluation.calibration import Reliability, reliability
from deeplight_jax.evaluation.evaluate import Progress, predict_logits
from deeplight_jax.evaluation.importance import FieldLoss, field_losses
from deeplight_jax.evaluation.liveness import live_pairs
from deeplight_jax.evaluation.pair_weights import pair_weights
from deeplight_jax.reporting.figures import Rates, Weights
from deeplight_jax.reporting.series import settings_of
from deeplight_jax.reporting.sources import Record
from deeplight_jax.sparsity.algebra import complete, leaves_by_path
from deeplight_jax.sparsity.schedule import fraction_reached
from deeplight_jax.training import run
from deeplight_jax.training.before import Before, params_before
from deeplight_jax.training.inspect import Run, load_run
from deeplight_jax.training.plan import Plan

_BINS = 81
_POINTS = 200


class Pairs(NamedTuple):
    """Field pairs of one run: f64[pair] weights and bool[pair] keep-mask, in the order of `Schema.pairs`."""

    name: str
    weights: np.ndarray
    keep: np.ndarray


class Details(NamedTuple):
    """One run looked at closely; what could not be had is empty, and `notes` say why.

    Attributes:
      record: the run.
      step: of the model reported.
      fields: names, in the schema's order.
      weights: distribution by component.
      pairs: its field pairs; None of a model without them.
      pairs_before: f64[pair] before pruning.
      before: where weights from before pruning are from.
      rates, areas, warmup_steps: see `figures.schedule`.
      calibration: by name of the model.
      losses: by field.
      notes: what is missing, and why.
    """

    record: Record
    step: int
    fields: tuple[str, ...]
    weights: list[Weights]
    pairs: Pairs | None
    pairs_before: np.ndarray | None
    before: str
    rates: list[Rates]
    areas: list[tuple[int, float]]
    warmup_steps: int
    calibration: dict[str, Reliability]
    losses: list[FieldLoss]
    notes: list[str]


def dense_twin(record: Record, records: Sequence[Record]) -> Record | None:
    """A finished run of the same setting without targets, of the same seed if there is one."""
    if not any(record.config.sparsity[code] for code in _codes(record)):
        return None

    def untargeted(other: Record) -> dict[str, Any]:
        return {
            k: v for k, v in settings_of(other.config).items() if k.removeprefix("sparsity.") not in codes
        }

    codes = set(_codes(record))
    twins = [
        r
        for r in records
        if r.result
        and not any(r.config.sparsity[c] for c in codes)
        and r.data["content_hash"] == record.data["content_hash"]
        and untargeted(r) == untargeted(record)
    ]
    return min(twins, key=lambda r: r.config.seed != record.config.seed, default=None)


def _codes(record: Record) -> Sequence[str]:
    return [c for c in COMPONENT_LETTERS.values() if c in record.config.sparsity]


def open_rows(record: Record, data: Path | None) -> Prepared:
    """The rows of a run, where they are now.

    Raises:
      DeeplightError: they are missing, damaged, or not what the run's model was trained on.
    """
    rows = open_prepared(data or record.config.data.dir, verify=record.config.data.verify)
    run.check_fits(run.directory_of(record.path), rows)
    return rows


def look_closely(
    record: Record,
    twin: Record | None,
    rows: Prepared | None,
    *,
    sample_rows: int,
    progress: Progress,
) -> Details:
    """Weights, pairs, schedule, calibration and field losses of a run.

    Args:
      record: the run.
      twin: its dense twin, if there is one: weights before pruning, and a curve of its own.
      rows: its data; None leaves calibration and field losses out.
      sample_rows: of the validation split, for the field losses.
      progress: called as `progress(what, done, total)`.

    Raises:
      DeeplightError: the run's checkpoint is missing or damaged.
    """
    found = load_run(record.path)
    before = params_before(found, record.path, twin.path if twin else None)
    curves, losses, notes = _on_validation(found, record, twin, rows, sample_rows, progress)
    if before is None:
        notes.append("Weights from before pruning were not kept; only those of today are shown.")
    weights = _pair_weights(found, before.params if before else None)
    return Details(
        record,
        found.step,
        tuple(f.name for f in found.schema.fields),
        _distribution(found, before),
        pairs_of(found, record.name),
        weights,
        before.source if before else "",
        _rates(found.plan, record),
        [(r["step"], r["roc_auc"]) for r in record.history if r.get("split") == "valid"],
        found.plan.warmup_steps if found.plan.components else 0,
        curves,
        losses,
        notes,
    )


def pairs_of(found: Run, name: str) -> Pairs | None:
    """A run's field pairs; None where its model has no weights for them."""
    weights = pair_weights(found.params, found.labels, found.schema)
    if weights is None:
        return None
    masks = complete(found.masks, found.params, found.labels)
    live = live_pairs(masks, found.labels, found.schema)
    return Pairs(name, weights, np.ones(weights.size, bool) if live is None else live)


def _pair_weights(found: Run, params: Any) -> np.ndarray | None:
    return None if params is None else pair_weights(params, found.labels, found.schema)


def _distribution(found: Run, before: Before | None) -> list[Weights]:
    """Histograms of each component's weights over one symmetric range."""
    now, was = leaves_by_path(found.params), leaves_by_path(before.params) if before else None
    by_code: dict[str, list[str]] = {}
    for path, code in leaves_by_path(found.labels).items():
        if code:
            by_code.setdefault(code, []).append(path)
    distributions = []
    for code, paths in by_code.items():
        kept, dense = _flat(now, paths), None if was is None else _flat(was, paths)
        largest = (
            max(float(np.abs(x).max(initial=0)) for x in (kept, kept if dense is None else dense)) or 1.0
        )
        edges = np.linspace(-largest, largest, _BINS + 1)
        alive = kept[kept != 0]
        counts = None if dense is None else np.histogram(dense, edges)[0]
        distributions.append(
            Weights(code, edges, counts, np.histogram(alive, edges)[0], kept.size - alive.size)
        )
    return distributions


def _flat(leaves: Mapping[str, Any], paths: Sequence[str]) -> np.ndarray:
    return np.concatenate([np.asarray(leaves[p]).ravel() for p in paths])


def _rates(plan: Plan, record: Record) -> list[Rates]:
    """The schedule's rates from the plan, and those that evaluations wrote down."""
    steps = np.linspace(0, plan.total_steps, _POINTS).astype(np.int64)
    given = (record.config.sparsity.damping, plan.damping_steps, record.config.sparsity.schedule)
    share = np.array([fraction_reached(int(step) - plan.warmup_steps, *given) for step in steps])
    rows = [r for r in record.history if r.get("split") == "valid"]
    return [
        Rates(c.code, steps, c.target * share,
              [(r["step"], r[f"rate_{c.code}"]) for r in rows if f"rate_{c.code}" in r], c.target)
        for c in plan.components
    ]  # fmt: skip


def _on_validation(
    found: Run,
    record: Record,
    twin: Record | None,
    rows: Prepared | None,
    sample_rows: int,
    progress: Progress,
) -> tuple[dict[str, Reliability], list[FieldLoss], list[str]]:
    """Reliability curves and field losses, and why there are none."""
    if rows is None:
        return {}, [], []
    try:
        split = rows.split("valid")
        labels, batch = np.asarray(split.label), found.config.eval.batch_size
        logits = predict_logits(found.model, found.params, split, batch, progress)
        curves = {record.name: reliability(logits, labels)}
        if twin:
            dense = load_run(twin.path)
            logits = predict_logits(dense.model, dense.params, split, batch, progress)
            curves[twin.name] = reliability(logits, labels)
        losses = field_losses(
            found.model, found.params, found.schema, split, rows=sample_rows, progress=progress
        )
    except DeeplightError as error:
        return {}, [], [f"No calibration and no field losses: {error}"]
    return curves, losses, []
