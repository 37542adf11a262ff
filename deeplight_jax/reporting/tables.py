"""Results as tables for people; texts from outside are escaped, for rich reads [words] as its own marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rich.markup import escape
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
    table = Table(title=escape(title), title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(escape(name), justify="right")
    results = list(columns.values())
    table.add_row("ROC AUC", *(_number(r, "roc_auc", "{:.4f}") for r in results))
    table.add_row("log loss", *(_number(r, "log_loss", "{:.4f}") for r in results))
    table.add_row("calibration ratio", *(_number(r, "calibration_ratio", "{:.3f}") for r in results))
    table.add_row("non-zero parameters", *(_number(r, "params_nonzero", "{:,}") for r in results))
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
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", no_wrap=True)
    compared = any(line.entry.published for line in lines)
    theirs = ("paper: ROC AUC", "log loss", "parameters") if compared else ()
    for heading in ("ROC AUC", "log loss", "non-zero parameters", *theirs):
        table.add_column(heading, justify="right")
    for (argument, paper), results, failure in lines:
        ours = [_spread(results, key) for key in ("roc_auc", "log_loss", "params_nonzero")]
        cells = ["failed", "-", "-"] if failure else ours
        if compared and paper:
            cells += [f"{paper.roc_auc:.4f}", f"{paper.log_loss:.4f}", f"{paper.params:,}"]
        table.add_row(escape(argument), *cells, *["-"] * (3 if compared and not paper else 0))
    return table


def prepared_table(manifest: Mapping[str, Any]) -> Table:
    """Rows, fields and rejected lines of a prepared data set."""
    table = Table(title="prepared", title_justify="left", show_header=False)
    for split, rows in manifest["rows"].items():
        clicks = manifest.get("positives", {}).get(split)
        share = f" ({clicks / rows:.1%} clicks)" if clicks is not None and rows else ""
        table.add_row(f"{split} rows", f"{rows:,}{share}")
    sizes = [field["size"] for field in manifest["schema"]]
    table.add_row("fields", f"{len(sizes)}")
    table.add_row("embedding rows", f"{sum(sizes):,}")
    for column, hashed in manifest.get("hashed", {}).items():
        rows = f"{hashed['rows']:,} rows" + (" twice" if hashed["fields"] == 2 else "")
        about = f"about {hashed['distinct']:,} values, {hashed['sharing']:.2%} of them expected to collide"
        table.add_row(escape(f"{column} hashed"), f"{rows}; {about}")
    _add_rejected(table, manifest.get("rejected", {"total": 0, "by_reason": {}, "first": []}))
    return table


def rejected_table(rejected: Mapping[str, Any]) -> Table:
    """Malformed lines by reason, and the first of them."""
    table = Table(title="lines without a score", title_justify="left", show_header=False)
    _add_rejected(table, rejected)
    return table


def _add_rejected(table: Table, rejected: Mapping[str, Any]) -> None:
    table.add_row("rejected lines", f"{rejected['total']:,}")
    for reason, count in rejected["by_reason"].items():
        table.add_row(escape(f"  {reason}"), f"{count:,}")
    for bad in rejected["first"][:5]:
        told = f"  {bad['file']}:{bad['line']}", f"{bad['reason']}: '{bad['text'][:60]}'"
        table.add_row(*map(escape, told))


def certificate_table(title: str, certificate: Mapping[str, Any], counts: Mapping[str, Any]) -> Table:
    """An artifact's certificate, JAX beside the engine, and what is left of its model."""
    table = Table(title=escape(title), title_justify="left", caption_justify="left")
    if certificate["path"] == "jax":
        table.caption = (
            "No compact form: JAX scores it at the dense model's speed; the file leaves zeros out."
        )
    table.add_column("")
    table.add_column("JAX", justify="right")
    table.add_column(f"engine ({certificate['path']})", justify="right")
    for heading, key in (("test ROC AUC", "roc_auc"), ("test log loss", "log_loss")):
        pair = certificate[key]
        table.add_row(heading, *("-" if v is None else f"{v:.6f}" for v in (pair["jax"], pair["engine"])))
    table.add_row("rows compared (real)", "", f"{certificate['rows']:,} ({certificate['real_rows']:,})")
    table.add_row("  of them one by one", "", f"{certificate['single_rows']:,}")
    table.add_row("largest error of a logit", "", f"{certificate['max_error']:.1e}")
    table.add_row("mean error of a logit", "", f"{certificate['mean_error']:.1e}")
    limit, largest = f"limit {certificate['limit']:.0e}", f"{certificate['max_relative_error']:.1e}"
    table.add_row("error / max(1, |logit|)", limit, largest)
    table.add_row("table's format", "", certificate.get("table", "f32"))
    for part, found in counts.items():
        numbers = found if isinstance(found, Sequence) else [found]
        table.add_row(f"live {part}", "", " + ".join(f"{n:,}" for n in numbers) or "0")
    return table


def _number(result: Mapping[str, Any], key: str, form: str) -> str:
    return form.format(result[key]) if key in result else "-"


def _spread(results: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [r[key] for r in results]
    if not values:
        return "-"
    if key == "params_nonzero":
        return f"{round(mean(values)):,}"
    return f"{mean(values):.4f}" + (f" ±{stdev(values):.4f}" if len(values) > 1 else "")


def _rate(component: Mapping[str, Any] | None) -> str:
    return "-" if component is None else f"{component['rate']:.1%} / {component['target']:.1%}"
