"""Every benchmark behind RESULTS.md in one pass, each output kept with its command, machine and versions.

    make benchmarks [CRITEO=train70k.txt.gz]
    python benchmarks/everything.py [--criteo RAW] [--only WORD...] [--list]

Tables of accuracy, in which no time stands, are made in two streams, each on a core; then what is timed, one
after the other. Writes build/benchmarks/COMMIT/NAME.txt, COMMIT being the last one that changed code. What is
there is not run again, so that a pass of hours may be interrupted; what needs rows of Criteo or a library not
found is named and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
CODE = ("deeplight_jax", "experiments", "benchmarks/*.py", "requirements.lock")
SMALL = "--config experiments/criteo_small.py --data OUT/criteo"


class Job(NamedTuple):
    """One command of RESULTS.md.

    Attributes:
      name: of its output's file.
      command: `deeplight ...` or a script of benchmarks/ with its arguments; OUT is the pass's folder.
      cores: that it is pinned to; "" for all.
      needs: "criteo", or modules without which it has nothing to compare with.
    """

    name: str
    command: str
    cores: str = "0,1"
    needs: str = ""


ACCURACY = (
    (
        Job("models", f"deeplight table models {SMALL} --out OUT/runs --seeds 3", "0", "criteo"),
        Job("table5", f"deeplight table 5 {SMALL} --out OUT/runs --seeds 3", "0", "criteo"),
        Job("table6", f"deeplight table 6 {SMALL} --out OUT/runs --seeds 3", "0", "criteo"),
    ),
    (
        Job("dropout100", f"deeplight table 5 {SMALL} --out OUT/runs100 --seeds 3 "
            "--config.model.dropout_steps=100", "1", "criteo"),
        Job("table4", f"deeplight table 4 {SMALL} --out OUT/runs4", "1", "criteo"),
        Job("criteria", "deeplight table criteria --config experiments/criteo_criteria.py "
            "--data OUT/criteo --out OUT/criteria --seeds 3", "1", "criteo"),
        Job("criteria_field_vector", "deeplight table criteria --config experiments/criteo_criteria.py "
            "--data OUT/criteo --out OUT/criteria_field_vector --seeds 3 "
            "--config.model.linear=field_vector", "1", "criteo"),
        Job("rowsparse", "rowsparse.py --data OUT/criteo --out OUT/rowsparse --seeds 3", "1", "criteo"),
    ),
)  # fmt: skip
TIMED = (
    Job("unread", "rowsparse.py --unread"),
    Job("headroom", "headroom.py --data OUT/criteo", needs="criteo sklearn"),
    Job("training_models", "models.py --rounds 3 --steps 3"),
    Job("loader", "loader.py --rows 4000000"),
    Job("ingest", "ingest.py --rows 500000 2000000 10000000"),
    Job("rows_memory", "rows_memory.py --rows 250000 2500000"),
    Job("engine_model", "engine.py --train OUT/engine --against none"),
    Job("engine", "deeplight bench --artifact OUT/engine/model.safetensors "
        "--run OUT/engine/run --rounds 5 --seconds 0.3 --flush --sweep-rate", "1"),
    Job("rank", "rank.py --artifact OUT/engine/model.safetensors --rounds 3", "1"),
    Job("masks", "masks.py", "0"),
    Job("train_step", "train_step.py", needs="torch"),
    Job("growth", "train_step.py --growth --figure OUT/growth.png"),
    Job("ahead", "ahead.py"),
    Job("repeat", "repeat.py --steps 30"),
    Job("saves", "saves.py"),
    Job("collectives", "XLA_FLAGS=--xla_force_host_platform_device_count=8 "
        "collectives.py --data 4 --table 2"),
    Job("sweep", "sweep.py --rows 20000 --rounds 1", ""),
)  # fmt: skip
JOBS = (*ACCURACY[0], *ACCURACY[1], *TIMED)


def commit() -> str:
    """The last commit that changed code, with a word where that is not what stands in the checkout."""
    last = _git("log", "-1", "--format=%h", "--abbrev=12", "--", *CODE).strip() or "unknown"
    return f"{last}-changed" if _git("status", "--porcelain", "--", *CODE) else last


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False).stdout


def words(job: Job, out: Path) -> list[str]:
    """The command as it is run, with this Python's `deeplight`."""
    first, *rest = (word.replace("OUT", str(out)) for word in shlex.split(job.command))
    pinned = ["taskset", "-c", job.cores] if job.cores else []
    if "=" in first:  # an environment variable
        pinned, (first, *rest) = ["env", first, *pinned], rest
    called = ["-m", "deeplight_jax"] if first == "deeplight" else [str(Path("benchmarks", first))]
    return [*pinned, sys.executable, *called, *rest]


def missing(job: Job, out: Path) -> list[str]:
    """What the job needs that is not here."""

    def is_here(need: str) -> bool:
        return (out / need).exists() if need == "criteo" else importlib.util.find_spec(need) is not None

    return [need for need in job.needs.split() if not is_here(need)]


def heading(job: Job, out: Path) -> str:
    """Command, commit, date, machine and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax", "numpy"))
    return (
        f"$ {job.command}\ncommit {out.name}, {time.strftime('%Y-%m-%d %H:%M')}, {_processor()}, "
        f"cores {job.cores or 'all'} of {os.cpu_count()}, load {os.getloadavg()[0]:.1f} before it, "
        f"Python {platform.python_version()}, {packages}\n"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "a CPU")


def run(job: Job, out: Path) -> bool:
    """Runs a job into its file, which has its name only once it is whole; whether it succeeded."""
    partial, began = out / f"{job.name}.partial", time.monotonic()
    # tables are not cut to a pipe's width
    environment = {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    with partial.open("w", encoding="utf-8") as file:
        print(heading(job, out), file=file, flush=True)
        status = subprocess.run(
            words(job, out), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
        print(f"\nexit status {status}, {time.monotonic() - began:.0f} s", file=file)
    if status == 0:
        partial.replace(partial.with_suffix(".txt"))
    return status == 0


def state_after(job: Job, out: Path) -> str:
    """Gives a job its turn; what became of it."""
    if (out / f"{job.name}.txt").exists():
        return "done before"
    if lacking := missing(job, out):
        return f"not run: no {', '.join(lacking)}"
    return "done" if run(job, out) else f"failed: see {job.name}.partial"


def prepare(raw: Path, made: Path) -> None:
    """The rows that RESULTS.md's tables are trained on, once."""
    if not made.exists():
        options = ["--numeric", "bucket", "--min-count", "1", "--test-fraction", "0.2"]
        command = ["-m", "deeplight_jax", "prepare", "criteo", str(raw), "--out", str(made), *options]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def chosen(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    return [job for job in jobs if not only or any(word in job.name for word in only)]


def in_turn(jobs: Sequence[Job], out: Path, console: Console, ended: Event) -> list[tuple[str, str, str]]:
    """Jobs one after the other, until `ended`: names, what became of them, and seconds; told as they end."""
    rows = []
    for job in jobs:
        if ended.is_set():
            break
        began = time.monotonic()
        rows.append((job.name, state_after(job, out), f"{time.monotonic() - began:.0f}"))
        console.print("{}: {}, {} s".format(*rows[-1]), highlight=False)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--criteo", type=Path, metavar="RAW", help="rows in Criteo Kaggle's layout")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="jobs whose names hold one")
    parser.add_argument("--list", action="store_true", help="name the jobs and their commands")
    options = parser.parse_args()
    out, console, ended = ROOT / "build" / "benchmarks" / commit(), Console(), Event()
    if options.list:
        for job in chosen(JOBS, options.only):
            console.print(f"{job.name}: {job.command}", markup=False, highlight=False, soft_wrap=True)
        return 0
    out.mkdir(parents=True, exist_ok=True)
    if options.criteo:
        prepare(options.criteo.resolve(), out / "criteo")
    streams = [chosen(jobs, options.only) for jobs in ACCURACY]
    with console.status("running; each is told as it ends"):
        with ThreadPoolExecutor(len(streams)) as pool:
            try:
                made = pool.map(lambda jobs: in_turn(jobs, out, console, ended), streams)
                rows = [row for stream in made for row in stream]
            except BaseException:  # Ctrl-C, which the jobs that run get, too
                ended.set()
                raise
        rows += in_turn(chosen(TIMED, options.only), out, console, ended)
    table = Table("benchmark", "state", "s", title=str(out.relative_to(ROOT)))
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return int(any(state.startswith("failed") for _, state, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
