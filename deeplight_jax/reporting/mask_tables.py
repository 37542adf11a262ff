"""Masks as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from deeplight_jax.reporting.tables import LETTERS

_PAIRS = 20  # shown by name; --json has all


def masks_tables(title: str, shown: Mapping[str, Any]) -> list[Table]:
    """Rates, dead units, and what each field keeps.

    Args:
      title: whose masks.
      shown: of `describe_masks`.
    """
    rates = _table(title, "target", "rate", "kept", "of")
    for code, part in shown["components"].items():
        target = "-" if part["target"] is None else f"{part['target']:.1%}"
        rates.add_row(LETTERS.get(code, code), target, *_kept(part))
        for path, layer in _layers(part):
            rates.add_row(f"  {path}", "", *_kept(layer))
    tables = [rates]
    if shown["dead_units"]:
        units = _table("dead units", "units", "no live input", "no way to the output", "dead")
        for layer, dead in enumerate(shown["dead_units"]):
            units.add_row(f"hidden layer {layer + 1}", *(f"{count:,}" for count in dead.values()))
        tables.append(units)
    return [*tables, *_fields_table(shown)]


def diff_tables(title: str, compared: Mapping[str, Any]) -> list[Table]:
    """Two runs' masks side by side.

    Args:
      title: which two, A first.
      compared: of `compare_masks`.
    """
    table = _table(title, "kept in both", "only A", "only B", "neither", "Jaccard", "by chance")
    for code, part in compared["components"].items():
        table.add_row(LETTERS.get(code, code), *_overlap(part))
        for path, layer in _layers(part):
            table.add_row(f"  {path}", *_overlap(layer))
    pairs = Table(show_header=False)
    pairs.add_column(no_wrap=True)
    pairs.add_column()
    for name in ("lost", "gained"):
        listed = compared[f"pairs_{name}"]
        more = f" and {len(listed) - _PAIRS:,} more" if len(listed) > _PAIRS else ""
        shown = escape(", ".join(" x ".join(pair) for pair in listed[:_PAIRS]))
        pairs.add_row(f"pairs {name}: {len(listed)}", shown + more)
    return [table, pairs] if "field" in compared["components"] else [table]


def churn_tables(title: str, churn: Mapping[str, Any]) -> list[Table]:
    """How masks moved: since the run began, at each report, and from checkpoint to checkpoint.

    Args:
      title: whose masks.
      churn: of `describe_churn`.
    """
    codes = list(churn["components"])
    letters = [LETTERS.get(code) or str(code) for code in codes]
    whole = _table(title, "weights", "events", "pruned", "regrown", "turnover an event", "settled after step")
    for letter, part in zip(letters, churn["components"].values(), strict=True):
        counts = (f"{part[name]:,}" for name in ("weights", "events", "pruned", "regrown"))
        whole.add_row(letter, *counts, f"{part['turnover']:.3%}", f"{part['settled_step']:,}")
    reports = _table("turnover an event", *letters)
    for report in churn["reports"]:
        if report["events"]:
            shares = (f"{report[code]['turnover']:.3%}" for code in codes)
            reports.add_row(f"to step {report['step']:,}", *shares)
    saved = _table("checkpoints: changed, and of these for the last time", *letters)
    for entry in churn["checkpoints"]:
        parts = (entry[code] for code in codes)
        cells = (f"{p['pruned'] + p['regrown']:,} ({p['last_changed']:,})" for p in parts)
        saved.add_row(f"step {entry['from']:,} to {entry['to']:,}", *cells)
    return [whole, reports, *([saved] if churn["checkpoints"] else [])]


def _fields_table(shown: Mapping[str, Any]) -> list[Table]:
    """One table, a row a field: its rows in the embedding table and its live pairs; none without either."""
    if not shown["rows"] and not shown["pairs"]:
        return []
    partners: dict[str, list[str]] = {}
    for first, second in shown["live_pairs"]:
        partners.setdefault(first, []).append(second)
        partners.setdefault(second, []).append(first)
    live = (
        f"{len(shown['live_pairs']):,} of {shown['pairs']:,} field pairs live" if shown["pairs"] else "fields"
    )
    table = _table(live, "rows", "wholly pruned", "live pairs")
    table.add_column("with")
    names = shown["rows"] or partners
    for name in names:
        rows = shown["rows"].get(name)
        counts = ("-", "-") if rows is None else (f"{rows['total']:,}", f"{rows['pruned']:,}")
        found = partners.get(name, [])
        with_all = len(found) == len(names) - 1 and len(found) > 3
        pairs = f"{len(found):,}" if shown["pairs"] else "-"
        table.add_row(escape(name), *counts, pairs, "all" if with_all else escape(" ".join(found)))
    return [table]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _layers(part: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Layers of a component that has several."""
    return part["layers"].items() if len(part["layers"]) > 1 else ()


def _kept(counts: Mapping[str, Any]) -> Sequence[str]:
    return f"{counts['rate']:.1%}", f"{counts['kept']:,}", f"{counts['total']:,}"


def _overlap(part: Mapping[str, Any]) -> Sequence[str]:
    counts = (f"{part[name]:,}" for name in ("both", "only_a", "only_b", "neither"))
    return *counts, f"{part['jaccard']:.3f}", f"{part['chance']:.3f}"
