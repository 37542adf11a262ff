"""The `deeplight report` command."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deeplight_jax.errors import ReportError


def add_report(commands: Any, out: Console, err: Console) -> None:
    """Add the command to argparse's sub-parsers; the summary goes to `out`, progress to `err`."""
    parser = commands.add_parser(
        "report", help="runs as figures and one HTML file that needs no network", allow_abbrev=False
    )
    parser.add_argument(
        "sources", nargs="+", metavar="RUN_or_FOLDER", help="runs, or folders of runs (a table's, a sweep's)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.html", help="page to write")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="the figures as PNG files, too")
    parser.add_argument(
        "--bench", nargs="+", type=Path, default=[], metavar="FILE.json", help="of deeplight bench --json"
    )
    parser.add_argument(
        "--focus", default="", metavar="RUN", help="run to look at closely (default: the best pruned one)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="where that run's rows are now")
    parser.add_argument(
        "--paper",
        choices=("criteo", "avazu"),
        default="",
        help="whose figures (default: by the data's recipe)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=10_000,
        metavar="N",
        help="validation rows for the field losses; 0: none",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=partial(_report, out, err))


def _report(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.report import write_report

    if arguments.sample < 0:
        raise ReportError(f"--sample {arguments.sample}: use 0 or more rows")
    with progress_bars(err) as advance:
        found = write_report(
            arguments.sources,
            arguments.out,
            figures=arguments.figures,
            bench=arguments.bench,
            focus=arguments.focus,
            data=arguments.data,
            paper=arguments.paper,
            sample_rows=arguments.sample,
            progress=advance,
        )
    if arguments.json:
        shown = {
            **found._asdict(),
            "path": str(found.path),
            "failures": [f._asdict() for f in found.failures],
        }
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    for failure in found.failures:
        out.print(
            f"not read: {failure.path}: {failure.reason}", markup=False, highlight=False, soft_wrap=True
        )
    kept = f"{found.runs} runs, {len(found.figures)} figures, a closer look at {found.focus}"
    out.print(f"{found.path}: {found.bytes:,} bytes, {kept}", markup=False, highlight=False, soft_wrap=True)
