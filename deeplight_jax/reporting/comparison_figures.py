"""Figures of several runs: quality and cost against a component's rate, and against each other.

Pure functions: data in, a matplotlib figure out. Draw within `style.styled()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from deeplight_jax.reporting.series import Series, pareto_front
from deeplight_jax.reporting.style import COLOURS, GREY, INK, MARKERS, panels, plain_log, share, size
from deeplight_jax.reporting.tables import LETTERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHED = ("narrow net", "short embedding")  # not pruned: small from the start
_NAMED = 8  # settings of the front that carry their names


class Candidate(NamedTuple):
    """A setting on the Pareto figure: mean bytes and mean ROC AUC on validation of its seeds."""

    label: str
    model: str
    bytes: float
    roc_auc: float


def rate_curves(code: str, curves: Sequence[Series]) -> Figure:
    """ROC AUC, and below it latency or memory, against a component's rate (the paper's Figures 4 to 6).

    Latency where every point of every curve has one, else bytes.
    """
    figure, (above, below) = panels(2, 1, height=4.2, sharex=True)
    timed = all(p.latency_us is not None for curve in curves for p in curve.points)
    highest = 0.0
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        rates = [p.rate for p in curve.points]
        areas, spreads = [p.roc_auc for p in curve.points], [p.spread for p in curve.points]
        costs = [(p.latency_us or 0.0) if timed else p.bytes for p in curve.points]
        form = f"{marker}{'--' if curve.kind in _DASHED else '-'}"
        above.errorbar(rates, areas, spreads, fmt=form, color=colour, label=curve.label, elinewidth=0.9)
        below.plot(rates, costs, form, color=colour)
        highest = max(highest, *costs)
    above.set_ylabel("ROC AUC")
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    below.set_ylim(0, 1.1 * highest)
    below.set_ylabel("latency of a row, µs" if timed else "size")
    if not timed:
        below.yaxis.set_major_formatter(lambda value, _: size(value))
    below.set_xlabel(f"pruned of {LETTERS[code]}")
    below.xaxis.set_major_formatter(lambda value, _: share(value))
    return figure


def pareto(candidates: Sequence[Candidate]) -> Figure:
    """ROC AUC on validation against bytes, in logs where sizes differ much; the front is drawn and named."""
    figure, (ax,) = panels(height=3.6)
    front = pareto_front([c.bytes for c in candidates], [c.roc_auc for c in candidates])
    best = [candidates[i] for i in front]
    ax.step([c.bytes for c in best], [c.roc_auc for c in best], where="post", color=GREY, linewidth=1.0)
    models = list(dict.fromkeys(c.model for c in candidates))
    for index, model in enumerate(models):
        mine = [c for c in candidates if c.model == model]
        marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
        ax.plot([c.bytes for c in mine], [c.roc_auc for c in mine], marker, color=colour, label=model)
    sizes = [c.bytes for c in candidates]
    if max(sizes) > 4 * min(sizes):
        plain_log(ax, "x", size, between="25")
    else:
        ax.xaxis.set_major_formatter(lambda value, _: size(value))
    ax.margins(0.1, 0.12)
    _name(ax, best)
    ax.set_xlabel("size of the model")
    ax.set_ylabel("ROC AUC, validation")
    if len(models) > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handletextpad=0.2)
    return figure


def _name(ax: Axes, front: Sequence[Candidate]) -> None:
    """Names beside the best of the front, on the side of the panel's middle so that none is cut off."""
    low, high = ax.get_xlim()
    middle = (low * high) ** 0.5 if ax.get_xscale() == "log" else (low + high) / 2
    for candidate in sorted(front, key=lambda c: -c.roc_auc)[:_NAMED]:
        left = candidate.bytes > middle
        ax.annotate(
            candidate.label.partition(" (")[0],
            (candidate.bytes, candidate.roc_auc),
            xytext=(-6 if left else 6, 4 if left else -9),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7,
            color=INK,
        )
