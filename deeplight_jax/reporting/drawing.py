"""Which figures a report has: each drawn where there is something to draw, as SVG and, if asked, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from deeplight_jax.reporting import comparison_figures, figures
from deeplight_jax.reporting.details import Details
from deeplight_jax.reporting.html import Figure as Shown
from deeplight_jax.reporting.report_tables import valid_area
from deeplight_jax.reporting.series import Setting, rate_series
from deeplight_jax.reporting.sources import Record
from deeplight_jax.reporting.style import styled, to_svg, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES = {
    "dnn": ("rate_dnn", "Pruning the deep net", 4),
    "field": ("rate_field", "Pruning field pairs", 5),
    "embedding": ("rate_embedding", "Pruning embeddings", 6),
}
_CURVE = (
    "The paper's Figure {number}: ROC AUC on {split}, bars one standard deviation over seeds; "
    "below it, the cost."
)
_FRONT = (
    "Means of each setting's seeds. On the front, no other setting is both smaller and better; "
    "by validation, since a front is for choosing."
)
_RATES = "Shaded: warm-up. Lines: schedule; marks: achieved; dotted: target. "
_WEIGHTS = "The paper's Figure 2. Weights that are zero are counted in each heading."
_BINS = (
    "Validation rows in twenty bins of equal count, 95\u00a0% intervals; "
    "the error is the mean distance from the diagonal."
)
_SHUFFLED = "Permutation importance on a sample of validation rows; whiskers: spread over three shuffles."


class _Plan(NamedTuple):
    key: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def draw(
    details: Details,
    records: Sequence[Record],
    settings: Sequence[Setting],
    planted: Collection[tuple[str, str]],
    folder: Path | None,
    progress: Callable[[str, int, int], None],
) -> list[Shown]:
    """Draw what there is; write PNG files into `folder` if it is given.

    Raises:
      ReportError: matplotlib is missing, or a file cannot be written.
    """
    plans = [*_comparisons(records, settings), *_of_one_run(details, planted)]
    shown = []
    for index, plan in enumerate(plans):
        with styled():
            figure = plan.draw()
        if folder is not None:
            write_png(figure, folder / f"{plan.key}.png")
        shown.append(Shown(plan.key, plan.title, plan.caption, to_svg(figure, plan.key)))
        progress("drawing", index + 1, len(plans))
    return shown


def _comparisons(records: Sequence[Record], settings: Sequence[Setting]) -> list[_Plan]:
    plans = []
    candidates = _candidates(settings)
    if len(candidates) > 1:
        plans.append(
            _Plan("pareto", "Quality against size", _FRONT, lambda: comparison_figures.pareto(candidates))
        )
    for code, (key, title, number) in _CURVES.items():
        if curves := rate_series(records, code):
            split = next(r.result.get("split", "test") for r in records if r.result)
            caption = _CURVE.format(number=number, split=split)
            plans.append(_Plan(key, title, caption, partial(comparison_figures.rate_curves, code, curves)))
    return plans


def _candidates(settings: Sequence[Setting]) -> list[comparison_figures.Candidate]:
    found = []
    for setting in settings:
        areas = [a for r in setting.records if (a := valid_area(r)) is not None]
        if areas:
            model, size = setting.records[0].config.model.name, mean(setting.values("bytes"))
            found.append(comparison_figures.Candidate(setting.label, model, size, mean(areas)))
    return found


def _of_one_run(details: Details, planted: Collection[tuple[str, str]]) -> list[_Plan]:
    d, pairs = details, details.pairs
    plans = []
    if d.areas:
        caption = (_RATES if d.rates else "") + "ROC AUC of the projected model on validation."
        draw = partial(figures.schedule, d.rates, d.areas, d.warmup_steps, d.step)
        plans.append(_Plan("schedule", "Schedule and achieved rates", caption, draw))
    if d.weights:
        caption = _WEIGHTS + (f" Before pruning: {d.before}." if d.before else "")
        draw = partial(figures.weight_distribution, d.weights)
        plans.append(_Plan("weights", "Weights by component", caption, draw))
    if pairs is not None:
        above = f"above it, before: {d.before}" if d.before else "those from before were not kept"
        squares = " Squares: planted pairs." if planted else ""
        caption = f"Below the diagonal, after pruning; {above}. Blank: pruned.{squares}"
        draw = partial(figures.field_map, d.fields, d.pairs_before, pairs.weights, pairs.keep, planted)
        plans.append(_Plan("field_map", "Field-pair weights R", caption, draw))
    if d.calibration:
        draw = partial(figures.calibration, d.calibration)
        plans.append(_Plan("calibration", "Calibration", _BINS, draw))
    if d.losses:
        draw = partial(figures.field_importance, d.losses)
        plans.append(_Plan("field_losses", "What each field is worth", _SHUFFLED, draw))
    return plans
