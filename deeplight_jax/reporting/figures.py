"""Figures of one run: its weights, its field pairs, its schedule, its calibration, its fields.

Pure functions: data in, a matplotlib figure out. Draw within `style.styled()`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deeplight_jax.data.schema import field_pairs
from deeplight_jax.evaluation.calibration import Reliability
from deeplight_jax.evaluation.importance import FieldLoss
from deeplight_jax.reporting.style import BLUE, COLOURS, GREY, INK, MARKERS, ORANGE, panels, plain_log, share
from deeplight_jax.reporting.tables import LETTERS

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


class Weights(NamedTuple):
    """How the weights of one component are distributed.

    Attributes:
      code: of the component.
      edges: f64[bin + 1].
      before: i64[bin], weights before pruning; None where they were not kept.
      kept: i64[bin], weights that are not zero now.
      pruned: how many are zero now.
    """

    code: str
    edges: np.ndarray
    before: np.ndarray | None
    kept: np.ndarray
    pruned: int


class Rates(NamedTuple):
    """A component's rate while training: the schedule by step, and what evaluations found.

    Attributes:
      code: of the component.
      steps, planned: i64[point], f64[point] of the schedule.
      found: (step, rate) of each evaluation.
      target: rate approached.
    """

    code: str
    steps: np.ndarray
    planned: np.ndarray
    found: Sequence[tuple[int, float]]
    target: float


def weight_distribution(components: Sequence[Weights]) -> Figure:
    """Weights by component, before pruning and kept, a panel each (the paper's Figure 2); counts in logs."""
    figure, axes = panels(len(components), 1, height=0.5 + 1.55 * len(components))
    for ax, found in zip(axes, components, strict=True):
        if found.before is not None:
            ax.stairs(found.before, found.edges, color=GREY, linewidth=1.2, label="before pruning")
        ax.stairs(found.kept, found.edges, fill=True, color=BLUE, alpha=0.75, label="kept")
        total = found.pruned + int(found.kept.sum())
        name = LETTERS.get(found.code, found.code)
        ax.set_title(f"{name}: {found.pruned / max(total, 1):.1%} of {total:,} zero")
        plain_log(ax, "y", lambda count: f"{count:,.0f}")
        ax.set_ylim(bottom=0.7)
        ax.set_ylabel("weights")
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("weight")
    return figure


def field_map(
    names: Sequence[str],
    before: np.ndarray | None,
    after: np.ndarray,
    keep: np.ndarray,
    planted: Collection[tuple[str, str]] = (),
) -> Figure:
    """R by field pair: after pruning below the diagonal, before it above; a pruned pair is blank.

    Args:
      names: of the fields.
      before, after: f64[pair] in the order of `Schema.pairs`; `before` None leaves the upper half blank.
      keep: bool[pair], pairs kept.
      planted: pairs of a planted world that are really there, marked by a square.
    """
    n = len(names)
    first, second = field_pairs(n)
    cells = np.full((n, n), np.nan)
    cells[second, first] = np.where(keep, after, np.nan)
    if before is not None:
        cells[first, second] = before
    largest = float(np.nanmax(np.abs(cells))) if np.isfinite(cells).any() else 1.0
    figure, (ax,) = panels(height=4.2)
    image = ax.imshow(cells, cmap=_diverging(), vmin=-largest, vmax=largest, interpolation="nearest")
    size = float(np.clip(180 / n, 2.5, 7.0))
    ax.set_xticks(range(n), names, rotation=90, fontsize=size)
    ax.set_yticks(range(n), names, fontsize=size)
    ax.tick_params(length=0, pad=1.5)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.plot([-0.5, n - 0.5], [-0.5, n - 0.5], color=INK, linewidth=0.5, alpha=0.4)
    real = {frozenset(pair) for pair in planted}
    true = [p for p, (i, j) in enumerate(zip(first, second, strict=True)) if {names[i], names[j]} in real]
    if true:
        rows, columns = (
            np.concatenate(x) for x in ((second[true], first[true]), (first[true], second[true]))
        )
        style = {"facecolors": "none", "edgecolors": INK, "linewidths": 0.7}
        ax.scatter(columns, rows, s=2 * (150 / n) ** 2, marker="s", label="planted pair", **style)
    figure.colorbar(image, ax=ax, shrink=0.6, pad=0.02, label="weight")
    return figure


def _diverging() -> Colormap:
    """Orange below 0, blue above; what is near 0 is nearly transparent, so that it suits any page."""
    from matplotlib.colors import ListedColormap, to_rgb

    depth = np.abs(np.linspace(-1, 1, 255))
    sides = [[*to_rgb(ORANGE if i < 127 else BLUE), 0.06 + 0.94 * d**0.8] for i, d in enumerate(depth)]
    return ListedColormap(np.asarray(sides)).with_extremes(bad=(0, 0, 0, 0))


def schedule(
    rates: Sequence[Rates], areas: Sequence[tuple[int, float]], warmup_steps: int, chosen: int | None
) -> Figure:
    """Rates by step, planned (line) and achieved (marks), over the ROC AUC on validation.

    Args:
      rates: of each pruned component; none of a dense run.
      areas: (step, ROC AUC) of each evaluation of the projected model.
      warmup_steps: steps before pruning begins.
      chosen: step of the model that is reported.
    """
    figure, axes = panels(2 if rates else 1, 1, height=3.6 if rates else 2.2, sharex=True)
    if rates:
        for index, (rate, colour, marker) in enumerate(zip(rates, COLOURS, MARKERS, strict=False)):
            ahead = max(len(rates) - 1 - index, 0)  # thicker, so that equal rates are all seen
            axes[0].plot(rate.steps, rate.planned, color=colour, linewidth=1.1 + 1.1 * ahead)
            found = _columns(rate.found)
            name = LETTERS.get(rate.code, rate.code)
            axes[0].plot(*found, marker, color=colour, label=name, markersize=4.5 + 2.5 * ahead)
            axes[0].axhline(rate.target, color=colour, linewidth=0.6, linestyle=":")
        axes[0].set_ylabel("pruned")
        axes[0].set_ylim(-0.03, 1.03)
        axes[0].yaxis.set_major_formatter(lambda value, _: share(value))
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handletextpad=0.2)
    axes[-1].plot(*_columns(areas), marker="o", color=INK, linewidth=1.1, label="validation")
    if chosen in dict(areas):
        axes[-1].plot([chosen], [dict(areas)[chosen]], "o", color=ORANGE, markersize=8, fillstyle="none",
                      markeredgewidth=1.6, label="reported model")  # fmt: skip
        axes[-1].legend(loc="lower right")
    axes[-1].set_ylabel("ROC AUC")
    axes[-1].set_xlabel("step")
    if rates:
        for ax in axes:
            ax.axvspan(0, warmup_steps, color=GREY, alpha=0.12, linewidth=0)
    return figure


def calibration(curves: Mapping[str, Reliability]) -> Figure:
    """Observed against predicted click rates on log axes, with 95 % intervals; the diagonal is perfect.

    Args:
      curves: by name of the model; at most as many as there are colours.
    """
    figure, (ax,) = panels(height=3.6)
    lowest = min(float(c.predicted.min()) for c in curves.values())
    lowest = min(lowest, *(float(c.observed[c.observed > 0].min(initial=1)) for c in curves.values()))
    low = 0.8 * max(lowest, 1e-5)
    ax.plot([low, 1], [low, 1], color=INK, linewidth=0.7, linestyle="--")
    for (name, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
        errors = np.maximum([curve.observed - curve.low, curve.high - curve.observed], 0)
        ax.errorbar(curve.predicted, curve.observed, errors, fmt=f"{marker}-", color=colour, markersize=3.5,
                    linewidth=0.9, elinewidth=0.8, label=f"{name}: error {curve.error:.4f}")  # fmt: skip
    for which in "xy":
        plain_log(ax, which, share, between="25")
    ax.set_xlim(low, 1)
    ax.set_ylim(low, 1)
    ax.set_xlabel("predicted click rate")
    ax.set_ylabel("observed click rate")
    ax.legend(loc="upper left")
    return figure


def field_importance(losses: Sequence[FieldLoss], most: int = 40) -> Figure:
    """ROC AUC that shuffling each field costs, the worst first; bars with the spread over shuffles."""
    worst = sorted(losses, key=lambda f: -f.loss)[:most][::-1]
    figure, (ax,) = panels(height=0.7 + 0.135 * len(worst))
    places = range(len(worst))
    ax.barh(places, [f.loss for f in worst], color=BLUE, height=0.7)
    ax.errorbar(
        [f.loss for f in worst],
        places,
        xerr=[f.spread for f in worst],
        fmt="none",
        ecolor=INK,
        elinewidth=0.7,
    )
    ax.set_yticks(places, [f.field for f in worst], fontsize=7)
    ax.set_ylim(-0.7, len(worst) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.axvline(0, color=INK, linewidth=0.7)
    ax.set_xlabel("ROC AUC lost when the field is shuffled")
    return figure


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
