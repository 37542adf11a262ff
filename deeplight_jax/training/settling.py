"""How a run's masks moved while it trained, and from when on they no longer did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.errors import RunError
from deeplight_jax.sparsity.algebra import leaves_by_path
from deeplight_jax.training import checkpoint, run
from deeplight_jax.training.inspect import load_masks


def describe_churn(workdir: str | Path, settled_below: float = 0.001) -> dict[str, Any]:
    """What `deeplight masks churn --json` prints.

    Args:
      workdir: of a run, finished or not.
      settled_below: a component is settled after the last report whose turnover is above this.

    Returns:
      `components: {code: {weights, pruned, regrown, events, turnover, settled_step}}`: times that a kept
      weight was pruned and a pruned one kept again; the share of weights that changed sides at an event,
      over the last report; and the step of the last report above `settled_below`, 0 if there is none.
      `reports: [{step, events, CODE: {pruned, regrown, turnover}}]`: of the events between two reports.
      `checkpoints: [{from, to, CODE: {pruned, regrown, last_changed}}]`: masks of one saved checkpoint beside
      the next one's; `last_changed` counts weights that no later one changed.

    Raises:
      RunError: no run is there, it is damaged, or it reported no churn.
    """
    directory = run.directory_of(workdir)
    rows = [row for row in run.load_metrics(directory) if "churn" in row]
    if not rows:
        raise RunError(f"{directory} reported no churn: it prunes nothing, or is from before it was counted")
    weights = _weights(load_masks(directory))
    reports = _between(rows, weights)
    components = {
        code: {
            "weights": weights[code],
            **rows[-1]["churn"][code],
            "events": rows[-1]["churn"]["events"],
            "turnover": reports[-1][code]["turnover"],
            "settled_step": _last_above(reports, code, settled_below),
        }
        for code in rows[-1]["churn"]
        if code != "events"
    }
    return {"components": components, "reports": reports, "checkpoints": _checkpoints(directory)}


def _last_above(reports: Sequence[Mapping[str, Any]], code: str, settled_below: float) -> int:
    return max((r["step"] for r in reports if r[code]["turnover"] > settled_below), default=0)


def _between(rows: Sequence[Mapping[str, Any]], weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """What moved from each report to the next."""
    codes = [code for code in rows[-1]["churn"] if code != "events"]
    nothing = {"step": 0, "churn": {"events": 0, **{code: {"pruned": 0, "regrown": 0} for code in codes}}}
    found = []
    for before, row in pairwise([nothing, *rows]):
        events = row["churn"]["events"] - before["churn"]["events"]
        report: dict[str, Any] = {"step": row["step"], "events": events}
        for code in codes:
            moved = {k: row["churn"][code][k] - before["churn"][code][k] for k in ("pruned", "regrown")}
            report[code] = {**moved, "turnover": sum(moved.values()) / max(events * weights[code], 1)}
        found.append(report)
    return found


def _checkpoints(directory: Path) -> list[dict[str, Any]]:
    """Successive saved checkpoints' masks, side by side."""
    steps = checkpoint.saved_steps(directory / "checkpoints")
    masks = [_flat(load_masks(f"{directory}@{step}")) for step in steps]
    found: list[dict[str, Any]] = [{"from": a, "to": b} for a, b in pairwise(steps)]
    for code in masks[0] if masks else ():
        later = np.zeros(masks[0][code].size, bool)
        for entry, (old, new) in reversed(list(zip(found, pairwise(masks), strict=True))):
            moved = old[code] ^ new[code]
            gone, back = int((moved & old[code]).sum()), int((moved & new[code]).sum())
            entry[code] = {"pruned": gone, "regrown": back, "last_changed": int((moved & ~later).sum())}
            later |= moved
    return found


def _flat(found: Any) -> dict[str, np.ndarray]:
    """Keep-marks of each component, one behind the other."""
    keeps, parts = leaves_by_path(found.masks), {}
    for path, code in leaves_by_path(found.labels).items():
        if code:
            parts.setdefault(code, []).append(np.asarray(keeps[path]).ravel())
    return {code: np.concatenate(leaves) for code, leaves in parts.items()}


def _weights(found: Any) -> dict[str, int]:
    return {code: keep.size for code, keep in _flat(found).items()}
