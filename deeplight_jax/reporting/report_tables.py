"""The tables of a report: settings beside the paper's figures, every run, config and environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from deeplight_jax.config import COMPONENT_LETTERS, flatten
from deeplight_jax.reporting.html import Cell, definitions, folded, table
from deeplight_jax.reporting.naming import argument_of
from deeplight_jax.reporting.series import Setting, varying
from deeplight_jax.reporting.sources import Record
from deeplight_jax.reporting.style import size
from deeplight_jax.sweeping.paper import Published

_DASH = "–"
_MOST_KEYS = 6  # varying config keys in the table of runs


def headline(
    settings: Sequence[Setting],
    published: Mapping[str, Published],
    focus: str,
    best: Mapping[str, float] | None = None,
) -> str:
    """A row a setting, mean and standard deviation of its seeds, the paper's figures on the right.

    Args:
      settings: of finished runs.
      published: the paper's figures by argument; empty where the data is not the paper's.
      focus: name of the run that the report looks at closely; its setting is marked.
      best: ROC AUC and log loss of a planted world's true probabilities.
    """
    compared = any(s.argument in published for s in settings)
    timed = any(r.latency_us is not None for s in settings for r in s.records)
    splits = {s.records[0].result["split"] for s in settings if s.records[0].result}
    split = f", {splits.pop()}" if len(splits) == 1 else ""
    heads = [
        *(Cell(h) for h in ("setting", "runs", f"ROC AUC{split}", f"log loss{split}", "not zero", "size"))
    ]
    heads += [Cell("latency")] if timed else []
    heads += _paper_cells(("paper: ROC AUC", "log loss", "parameters")) if compared else []
    rows: list[tuple[str, Sequence[Cell]]] = []
    for setting in settings:
        cells = [Cell(setting.label), Cell(str(len(setting.records)))]
        cells += [Cell(spread(setting.values(key))) for key in ("roc_auc", "log_loss")]
        cells.append(Cell(f"{round(mean(setting.values('params_nonzero'))):,}"))
        cells.append(Cell(size(mean(setting.values("bytes")))))
        times = [r.latency_us for r in setting.records if r.latency_us is not None]
        cells += [Cell(f"{mean(times):.2f} µs" if times else _DASH)] if timed else []
        if compared:
            cells += _paper_cells(_printed(published.get(setting.argument)))
        rows.append(("focus" if focus in {r.name for r in setting.records} else "", cells))
    if best:
        texts = [_DASH, f"{best['roc_auc']:.4f}", f"{best['log_loss']:.4f}", *[_DASH] * (len(heads) - 4)]
        rows.append(("", [Cell("best reachable"), *map(Cell, texts)]))
    return table(heads, rows, name="headline") if settings else ""


def _printed(paper: Published | None) -> Sequence[str]:
    if paper is None:
        return (_DASH,) * 3
    return f"{paper.roc_auc:.4f}", f"{paper.log_loss:.4f}", f"{paper.params:,}"


def _paper_cells(texts: Sequence[str]) -> list[Cell]:
    return [Cell(text, kind="theirs first" if i == 0 else "theirs") for i, text in enumerate(texts)]


def run_table(records: Sequence[Record], focus: str) -> str:
    """Every run, a row each, sorted by a click on a heading; unfinished ones show what they have reached."""
    told = ("seed", "model.name", "model.narrow", *(f"sparsity.{c}" for c in COMPONENT_LETTERS.values()))
    keys = [k for k in varying(records) if k not in told][:_MOST_KEYS]
    codes = [
        c
        for c in COMPONENT_LETTERS.values()
        if any(r.result and c in r.result["components"] for r in records)
    ]
    letters = {name: letter for letter, name in COMPONENT_LETTERS.items()}
    texts = ["run", "setting", *(k.partition(".")[2] for k in keys)]
    numbers = ["seed", "ROC AUC", "log loss", "valid ROC AUC", "calibration", "not zero", "size",
               *(f"{letters[c]} pruned" for c in codes), "latency", "seconds"]  # fmt: skip
    heads = [*(Cell(t, kind="text") for t in texts), *(Cell(n) for n in numbers)]
    rows = []
    for record in records:
        flat = flatten(record.config)
        found = record.result or {}
        name = record.name if record.result else f"{record.name} ({_progress(record)})"
        cells = [
            Cell(name, record.name, "text"),
            _text(argument_of(record.config)),
            *(_text(str(flat[k])) for k in keys),
        ]
        rates = [_number(found.get("components", {}).get(c, {}).get("rate"), "{:.1%}") for c in codes]
        cells += [
            Cell(str(flat["seed"]), flat["seed"]),
            _number(found.get("roc_auc"), "{:.4f}"),
            _number(found.get("log_loss"), "{:.4f}"),
            _number(valid_area(record), "{:.4f}"),
            _number(found.get("calibration_ratio"), "{:.3f}"),
            _number(found.get("params_nonzero"), "{:,}"),
            Cell(size(found["bytes"]), found["bytes"]) if found else Cell(_DASH),
            *rates,
            _number(record.latency_us, "{:.2f} µs"),
            _number(found.get("wall_s"), "{:,.0f}"),
        ]
        rows.append(("focus" if record.name == focus else "", cells))
    return table(heads, rows, name="runs", sortable=True)


def valid_area(record: Record) -> float | None:
    """ROC AUC on validation of the reported model; of an unfinished run, the best so far."""
    if found := record.result:
        return (
            found["roc_auc"] if found.get("split") == "valid" else (found.get("valid") or {}).get("roc_auc")
        )
    return max((r["roc_auc"] for r in record.history if "roc_auc" in r), default=None)


def config_and_environment(record: Record, records: Sequence[Record]) -> str:
    """The focus run's environment, what varies among the runs, and its whole config."""
    found = record.result or {}
    content = record.data["content_hash"][:12]
    about = [
        ("run", record.path),
        ("data", f"{record.config.data.dir}, content {content}"),
        ("train rows", f"{record.data['rows']:,}"),
        ("config", f"hash {found.get('config_hash', _DASH)[:12]}"),
        *((name, str(version)) for name, version in found.get("versions", {}).items()),
    ]
    about += [("notice", found["notice"])] if found.get("notice") else []
    keys = varying(records)
    about += [("keys that vary among the runs", ", ".join(keys))] if keys else []
    flat = flatten(record.config)
    config = definitions([(k, repr(v) if isinstance(v, str) else str(v)) for k, v in flat.items()])
    every = folded(f"every config key of {record.name}", f'<div class="columns">{config}</div>')
    return definitions(about) + every


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation of several."""
    if not values:
        return _DASH
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _progress(record: Record) -> str:
    steps: list[Any] = [r["step"] for r in record.history]
    return f"unfinished, step {max(steps):,}" if steps else "not begun"


def _text(text: str) -> Cell:
    return Cell(text, text, "text")


def _number(value: float | None, form: str) -> Cell:
    return Cell(_DASH) if value is None else Cell(form.format(value), value)
