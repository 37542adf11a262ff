"""A sweep's members as points, latency or bytes against the metric, the front drawn through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplight_jax.reporting.style import save_figure


def draw_pareto(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    chosen: str,
    out: Path,
    metric: str = "log_loss",
) -> Path:
    """Write a PNG: the validation metric over engine latency and over engine bytes, side by side.

    Args:
      rows: of `sweeping.results.rows`; those without measured figures are left out.
      front: those that no other beats.
      chosen: name of the marked member.
      out: file to write or replace.
      metric: "log_loss" or "roc_auc".
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    measured = [row for row in rows if row["p50_us"] is not None and row["state"] == "done"]
    for axes, key, label in zip(
        figure.subplots(1, 2, sharey=True),
        ("p50_us", "engine_bytes"),
        ("engine latency, p50 of one row (µs)", "engine bytes"),
        strict=True,
    ):
        _draw(axes, measured, sorted(front, key=lambda row: row[key]), chosen, key, f"valid_{metric}")
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel(f"validation {metric.replace('_', ' ')}")
    figure.axes[0].legend()
    save_figure(figure, out, dpi=120)
    return out


def _draw(
    axes: Any,
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    chosen: str,
    key: str,
    metric: str,
) -> None:
    axes.scatter([r[key] for r in rows], [r[metric] for r in rows], s=18, color="0.6", label="members")
    axes.plot([r[key] for r in front], [r[metric] for r in front], "o-", ms=5, color="C0", label="front")
    for row in rows:
        if row["name"] == chosen:
            axes.scatter([row[key]], [row[metric]], s=120, marker="*", color="C3", zorder=3, label="chosen")
    axes.set_xscale("log")
    axes.grid(True, which="both", alpha=0.2)
