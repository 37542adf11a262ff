"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from deeplight_jax.sweeping.paper import Line

LETTERS = {
    "dnn": "D (deep net)",
    "field": "R (field pairs)",
    "embedding": "F (embeddings)",
    "cin": "C (CIN)",
    "cross": "X (cross network)",
    "attention": "A (attention)",
}


def results_table(
    title: str, columns: Mapping[str, Mapping[str, Any]], extra: Sequence[tuple[str, Sequence[str]]] = ()
) -> Table:
    """Results side by side, a column each.

    Args:
      title: what was run.
      columns: content of `result.json` (or of `dl.evaluate`) by column heading; a missing entry shows as "-".
      extra: further rows: a heading and one text a column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    results = list(columns.values())
    table.add_row("ROC AUC", *(_number(r, "roc_auc", "{:.4f}") for r in results))
    table.add_row("log loss", *(_number(r, "log_loss", "{:.4f}") for r in results))
    table.add_row("calibration ratio", *(_number(r, "calibration_ratio", "{:.3f}") for r in results))
    table.add_row("parameters", *(_number(r, "params_nonzero", "{:,}") for r in results))
    table.add_row("bytes", *(_number(r, "bytes", "{:,}") for r in results))
    for code, heading in LETTERS.items():
        cells = [_rate(r.get("components", {}).get(code)) for r in results]
        if any(cell != "-" for cell in cells):
            table.add_row(f"{heading}: rate / target", *cells)
    for heading, cells in extra:
        table.add_row(heading, *cells)
    return table


def paper_table(title: str, lines: Sequence[Line]) -> Table:
    """Our runs beside the paper's figures, a row a model; of several seeds mean and standard deviation."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("ROC AUC", "log loss", "parameters", "paper: ROC AUC", "log loss", "parameters"):
        table.add_column(heading, justify="right")
    for entry, results in lines:
        ours = (_spread(results, "roc_auc"), _spread(results, "log_loss"), _spread(results, "params_nonzero"))
        paper = entry.published
        theirs = (
            ("-", "-", "-")
            if paper is None
            else (f"{paper.roc_auc:.4f}", f"{paper.log_loss:.4f}", f"{paper.params:,}")
        )
        table.add_row(entry.argument, *ours, *theirs)
    return table


def prepared_table(manifest: Mapping[str, Any]) -> Table:
    """Rows, fields and rejected lines of a prepared data set."""
    table = Table(title="prepared", title_justify="left", show_header=False)
    for split, rows in manifest["rows"].items():
        table.add_row(f"{split} rows", f"{rows:,}")
    sizes = [field["size"] for field in manifest["schema"]]
    table.add_row("fields", f"{len(sizes)}")
    table.add_row("embedding rows", f"{sum(sizes):,}")
    rejected = manifest.get("rejected", {"total": 0, "by_reason": {}, "first": []})
    table.add_row("rejected lines", f"{rejected['total']:,}")
    for reason, count in rejected["by_reason"].items():
        table.add_row(f"  {reason}", f"{count:,}")
    for bad in rejected["first"][:5]:
        table.add_row(f"  {bad['file']}:{bad['line']}", f"{bad['reason']}: {bad['text'][:60]!r}")
    return table


def _number(result: Mapping[str, Any], key: str, form: str) -> str:
    return form.format(result[key]) if key in result else "-"


def _spread(results: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [r[key] for r in results]
    if key == "params_nonzero":
        return f"{round(mean(values)):,}"
    return f"{mean(values):.4f}" + (f" ±{stdev(values):.4f}" if len(values) > 1 else "")


def _rate(component: Mapping[str, Any] | None) -> str:
    return "-" if component is None else f"{component['rate']:.1%} / {component['target']:.1%}"
