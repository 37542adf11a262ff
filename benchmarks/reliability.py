"""The long form of tests/faults, and what it counted as benchmarks/RELIABILITY.md.

    python benchmarks/reliability.py [--short] [TEST_FILE...]

A file's figures replace that file's earlier ones; where a test of it fails none are written, and the exit
status says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "RELIABILITY.md"
LONG_TOO = [
    *(ROOT / "tests/training" / f"test_{name}.py" for name in ("every_model", "rowsparse", "mesh", "hosts")),
    ROOT / "tests/sweeping/test_compiled.py",
]
"""Beside tests/faults, what has a long form."""
HEAD = """# Reliability

Written by `make faults` (`python benchmarks/reliability.py [--short] [TEST_FILE...]`), which runs
`tests/faults` in its long form; the ordinary suite runs the same tests in their short form. Every line is of
a run whose assertions held.
"""


def run_file(file: Path, long: bool) -> list[dict[str, Any]] | None:
    """What the tests of a file counted; None if one failed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        settings = {"DEEPLIGHT_FAULTS": "long" if long else "short", "DEEPLIGHT_FIGURES": str(figures)}
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(file)]
        began = time.monotonic()
        status = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=False).returncode
        if status:
            return None
        lines = figures.read_text(encoding="utf-8").splitlines() if figures.exists() else []
        seconds = round(time.monotonic() - began)
        return [{"what": "all its tests", "tests_passed": True, "seconds": seconds}, *map(json.loads, lines)]


def section(file: Path, found: list[dict[str, Any]], long: bool, shared: str) -> str:
    """A table of a file's figures under its first line."""
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}{shared}"
    title = file.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
    form = "long" if long else "short"
    rows = [f"| {line['what']} | {_counted(line)} |" for line in found]
    head = f"## {file.name}\n\n{title}\n({form} form; {machine}; {time.strftime('%Y-%m-%d')})\n\n"
    return head + "| what | counted |\n|---|---|\n" + "\n".join(rows) + "\n"


def _shared() -> str:
    """A word on other work that the machine does, which makes every time longer."""
    load, cpus = os.getloadavg()[1], os.cpu_count() or 1
    return f", shared with other work: load {load:.0f}" if load > cpus / 2 else ""


def _counted(line: dict[str, Any]) -> str:
    told = {k: v for k, v in line.items() if k not in ("test", "what", "long")}
    return ", ".join(f"{k.replace('_', ' ')} {v:,}" if type(v) is int else f"{k.replace('_', ' ')} {v}"
                     for k, v in told.items())  # fmt: skip


def write_page(sections: dict[str, str]) -> None:
    """The page with these sections in the place of earlier ones of the same files."""
    old = PAGE.read_text(encoding="utf-8").split("\n## ")[1:] if PAGE.exists() else []
    kept = {text.splitlines()[0]: f"## {text.rstrip()}\n" for text in old} | sections
    temporary = PAGE.with_suffix(".tmp")
    temporary.write_text("\n".join([HEAD, *(kept[name] for name in sorted(kept))]), encoding="utf-8")
    temporary.replace(PAGE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, default=sorted((ROOT / "tests/faults").glob("test_*.py")) + LONG_TOO
    )
    parser.add_argument("--short", action="store_true", help="as in the ordinary suite")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
    failed = []
    for file in arguments.files:
        shared = _shared()
        found = run_file(file, not arguments.short)
        if found is None:
            failed.append(file.name)
        else:
            write_page({file.name: section(file, found, not arguments.short, shared)})
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else f"wrote {PAGE}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
