"""The page of a report, from everything that was found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.reporting import html
from deeplight_jax.reporting.details import Details, Pairs, dense_twin
from deeplight_jax.reporting.naming import argument_of
from deeplight_jax.reporting.report_tables import config_and_environment, headline, run_table
from deeplight_jax.reporting.series import Setting
from deeplight_jax.reporting.sources import Failure, Record
from deeplight_jax.reporting.style import size
from deeplight_jax.sweeping.paper import FIGURES

_STRONGEST = 20
_PROJECTED = "All figures are of projected models: pruned weights are zero."
_CHOSEN = (
    "The paper's figures are of all rows of its data (45.8M of Criteo, 40.4M of Avazu), at the best epoch on "
    "the test split; ours are of {rows:,} train rows, at the best epoch on validation, and test is read once."
)
_HINT = "Point at a cell, tap it, or move by arrow keys: the pair's names, its weight, the runs that keep it."


class Material(NamedTuple):
    """What a page is made of.

    Attributes:
      title: what the report is of.
      details: the run looked at closely.
      records, settings, failures: all runs, by setting, and those that could not be read.
      pairs: field pairs of several runs, the focus run's first.
      figures: drawn.
      manifest: of the focus run's data; empty where it was not opened.
      paper: "criteo", "avazu" or "" (by the data's recipe).
    """

    title: str
    details: Details
    records: Sequence[Record]
    settings: Sequence[Setting]
    failures: Sequence[Failure]
    pairs: Sequence[Pairs]
    figures: Sequence[html.Figure]
    manifest: Mapping[str, Any]
    paper: str

    @property
    def recipe(self) -> str:
        return self.manifest.get("recipe", {}).get("name", "")

    @property
    def world(self) -> Mapping[str, Any]:
        """What is known of a planted world; empty of other data."""
        return self.manifest.get("synthetic", {})

    @property
    def planted(self) -> list[int]:
        """Indices of the planted pairs."""
        real = {frozenset(p) for p in self.world.get("pairs", ())}
        return [i for i, pair in enumerate(combinations(self.details.fields, 2)) if frozenset(pair) in real]


def report_page(material: Material) -> str:
    """The whole HTML file."""
    details, record = material.details, material.details.record
    best = material.world.get("best", {}).get((record.result or {}).get("split", "test"))
    published = FIGURES.get(material.paper or material.recipe, {})
    compared = any(s.argument in published for s in material.settings)
    not_read = [f"{f.path}: {f.reason}" for f in material.failures]
    about = f"Of {record.name} at step {details.step:,}, where they do not compare runs."
    sections = [
        html.tiles(_tiles(material)),
        html.section(
            "Results",
            headline(material.settings, published, record.name, best),
            html.paragraph(_CHOSEN.format(rows=record.data["rows"]) if compared else ""),
        ),
        html.section("Figures", html.paragraph(about), html.figures(material.figures)),
        html.section("Field pairs", *_pairs(material)),
        html.section("Runs", run_table(material.records, record.name)),
        html.section("Not shown", html.bullets([*not_read, *details.notes])),
        html.section("Config and environment", config_and_environment(record, material.records)),
    ]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return html.page(
        f"DeepLight report: {material.title}",
        _lead(material),
        sections,
        f"Written by deeplight report, {written}.",
    )


def _lead(material: Material) -> str:
    record, runs = material.details.record, len(material.records)
    named = material.recipe or ("a planted world" if material.world else Path(record.config.data.dir).name)
    count = "1 run" if runs == 1 else f"{runs} runs of {len(material.settings)} settings"
    return f"{count} on {named}, {record.data['rows']:,} train rows. {_PROJECTED}"


def _tiles(material: Material) -> list[tuple[str, str]]:
    details = material.details
    record, found = details.record, details.record.result
    if found is None:
        return [(record.name, "not finished; its newest checkpoint is shown")]
    split = found.get("split", "test")
    items = [(f"{found['roc_auc']:.4f}", f"ROC AUC on {split}, {argument_of(record.config)}")]
    if (twin := dense_twin(record, material.records)) and twin.result:
        items.append((_signed(found["roc_auc"] - twin.result["roc_auc"]), "ROC AUC against its dense twin"))
    alive, total = found["params_nonzero"], found["params_total"]
    items.append((f"{alive / total:.1%}", f"of {total:,} parameters not zero"))
    items.append((size(found["bytes"]), "weights and masks, by count"))
    if details.pairs is not None:
        keep, planted = details.pairs.keep, material.planted
        text = f"of {keep.size:,} field pairs kept"
        if planted:
            text += f", {int(keep[planted].sum())} of {len(planted)} planted ones"
        items.append((f"{int(keep.sum()):,}", text))
    if record.latency_us is not None:
        items.append((f"{record.latency_us:.2f} µs", "a row in the engine, median"))
    return items


def _pairs(material: Material) -> list[str]:
    """The explorer, and the strongest pairs as a table."""
    if not material.pairs:
        return []
    details, planted = material.details, material.planted
    data = {
        "fields": list(details.fields),
        "runs": [{"name": p.name, "w": _short(p.weights), "keep": _bits(p.keep)} for p in material.pairs],
        "before": None if details.pairs_before is None else _short(details.pairs_before),
        "planted": planted,
    }
    mine, names = material.pairs[0], list(combinations(details.fields, 2))
    rows = []
    for i in np.argsort(-np.abs(mine.weights) * mine.keep, kind="stable")[:_STRONGEST]:
        if mine.keep[i]:
            kept = sum(bool(p.keep[i]) for p in material.pairs)
            texts = [
                " × ".join(names[i]),
                _signed(float(mine.weights[i])),
                f"{kept} of {len(material.pairs)}",
            ]
            texts += ["yes" if i in planted else "–"] if planted else []
            rows.append(("", [html.Cell(text) for text in texts]))
    headings = ["strongest pairs", "weight", "kept in runs", *(["planted"] if planted else [])]
    table = html.table([html.Cell(h) for h in headings], rows, name="strongest")
    return [html.paragraph(_HINT), html.beside(html.pair_explorer(data), table)]


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _short(weights: np.ndarray) -> list[float]:
    return [float(f"{w:.4g}") for w in weights]


def _bits(keep: np.ndarray) -> str:
    return "".join("1" if k else "0" for k in keep)
