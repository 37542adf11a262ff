"""`deeplight report`: runs, or folders of runs, into one HTML file and its figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deeplight_jax.data.prepared import Prepared
from deeplight_jax.errors import DeeplightError, ReportError
from deeplight_jax.evaluation.evaluate import Progress
from deeplight_jax.files import write_atomically
from deeplight_jax.reporting.details import Details, Pairs, dense_twin, look_closely, open_rows, pairs_of
from deeplight_jax.reporting.drawing import draw
from deeplight_jax.reporting.naming import argument_of
from deeplight_jax.reporting.report_page import Material, report_page
from deeplight_jax.reporting.report_tables import valid_area
from deeplight_jax.reporting.series import group_settings
from deeplight_jax.reporting.sources import Failure, Record, find_runs, read_latencies, read_records
from deeplight_jax.training.inspect import load_run

_PAIR_RUNS = 24  # runs whose field pairs are read: a second each


class Report(NamedTuple):
    """What was written: the file, its bytes, its figures by name, and what it is made of."""

    path: Path
    bytes: int
    figures: list[str]
    runs: int
    focus: str
    failures: list[Failure]


def write_report(
    sources: Sequence[str | Path],
    out: Path,
    *,
    figures: Path | None = None,
    bench: Sequence[Path] = (),
    focus: str = "",
    data: Path | None = None,
    paper: str = "",
    sample_rows: int = 10_000,
    progress: Progress | None = None,
) -> Report:
    """Write a report of runs; one that cannot be read is listed with the reason.

    Args:
      sources: runs (RUN or RUN@STEP), and folders that hold runs up to three levels below them.
      out: HTML file to write or replace, whole or not at all.
      figures: folder for the figures as PNG files, made if it is missing.
      bench: files of `deeplight bench --json`; latencies stand beside the runs measured.
      focus: name or path of the run to look at closely, or its folder's name if no other has it; by default
        the best on validation of those runs that prune the most components.
      data: where the focus run's rows are now, if not where its config says.
      paper: "criteo" or "avazu", whose figures stand beside ours; by default the data's recipe decides.
      sample_rows: validation rows for the field losses; 0 leaves them and the calibration out.
      progress: called as `progress(what, done, total)`.

    Raises:
      ReportError: there is no run, none can be read, or a file cannot be written.
    """
    advance = progress or (lambda *_: None)
    records, failures = read_records(find_runs(sources), read_latencies(sources, bench))
    if not records:
        raise ReportError(f"no run can be read; the first: {failures[0].path}: {failures[0].reason}")
    record = _choose(records, focus)
    _check_writable(out, figures)
    advance("reading the run and its rows", 0, 1)
    rows, notes = _rows(record, data, sample_rows)
    twin = dense_twin(record, records)
    details = look_closely(record, twin, rows, sample_rows=sample_rows, progress=advance)
    advance("reading the run and its rows", 1, 1)
    pairs, more = _all_pairs(details, records, advance)
    details.notes.extend([*notes, *more])
    manifest = dict(rows.manifest) if rows else {}
    settings = group_settings(records)
    shown = draw(details, records, settings, manifest.get("synthetic", {}).get("pairs", ()), figures, advance)
    title = ", ".join(Path(str(s)).resolve().name for s in sources[:3]) + (", …" if len(sources) > 3 else "")
    text = report_page(Material(title, details, records, settings, failures, pairs, shown, manifest, paper))
    _write(out, text)
    return Report(out, len(text.encode()), [f.key for f in shown], len(records), record.name, failures)


def _choose(records: Sequence[Record], focus: str) -> Record:
    """The run to look at closely.

    Raises:
      ReportError: no run has the name given.
    """
    if focus:
        wanted = os.path.normpath(focus)
        exact = [r for r in records if wanted in (r.name, os.path.normpath(r.path))]
        named = exact or [r for r in records if Path(r.path).name == wanted]
        if len(named) == 1:
            return named[0]
        known = ", ".join(r.name for r in records[:8]) + (", ..." if len(records) > 8 else "")
        raise ReportError(f"--focus {focus} is none of the runs; they are {known}")

    def worth(record: Record) -> tuple[bool, int, float]:
        parts = (record.result or {"components": {}})["components"].values()
        return record.result is not None, sum(p["target"] > 0 for p in parts), valid_area(record) or 0.0

    return max(records, key=worth)


def _rows(record: Record, data: Path | None, sample_rows: int) -> tuple[Prepared | None, list[str]]:
    if not sample_rows:
        return None, ["Calibration and field losses were left out, as asked."]
    try:
        return open_rows(record, data), []
    except DeeplightError as error:
        return None, [f"No calibration and no field losses: {error}"]


def _all_pairs(
    details: Details, records: Sequence[Record], advance: Progress
) -> tuple[list[Pairs], list[str]]:
    """Field pairs of the focus run, then of other runs over the same fields that pruned theirs."""
    if details.pairs is None:
        return [], [
            f"Model {details.record.config.model.name} has no field-pair weights, so there is no map of R."
        ]
    mine = details.record
    others = [
        r
        for r in records
        if r is not mine
        and r.data["schema"] == mine.data["schema"]
        and r.config.sparsity.field
        and r.config.model.name == mine.config.model.name
    ]
    others.sort(key=lambda r: (argument_of(r.config) != argument_of(mine.config), -(valid_area(r) or 0.0)))
    found, notes = [details.pairs], []
    for index, record in enumerate(others[: _PAIR_RUNS - 1]):
        try:
            if (pairs := pairs_of(load_run(record.path), record.name)) is not None:
                found.append(pairs)
        except DeeplightError as error:
            notes.append(f"Field pairs of {record.name} are not shown: {error}")
        advance("reading field pairs", index + 1, min(len(others), _PAIR_RUNS - 1))
    if len(others) >= _PAIR_RUNS:
        notes.append(f"Field pairs of {_PAIR_RUNS} runs are shown, of {len(others) + 1}.")
    return found, notes


def _check_writable(out: Path, figures: Path | None) -> None:
    """Refuse before the long work begins what could not be written after it."""
    if out.is_dir():
        raise ReportError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise ReportError(f"--figures {figures} is a file; name a folder")
    for folder in (out.parent, figures):
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ReportError(f"cannot make {folder} ({error.strerror}); name another place") from error


def _write(out: Path, text: str) -> None:
    try:
        write_atomically(out, text)
    except OSError as error:
        raise ReportError(f"cannot write {out} ({error.strerror}); name another --out") from error
