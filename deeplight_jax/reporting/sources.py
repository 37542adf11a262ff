"""What a report is made of: runs found under the folders given, and latencies measured elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.config import Config, config_hash
from deeplight_jax.errors import DeeplightError, ReportError
from deeplight_jax.reporting.naming import argument_of
from deeplight_jax.serving import artifact
from deeplight_jax.training import run

_DEPTH = 3  # RUNS/ARGUMENT/seed-N and SWEEP/members/HASH lie at depth 2


class Record(NamedTuple):
    """A run as a report sees it, without its weights.

    Attributes:
      name: short and unique among the report's runs.
      path: RUN or RUN@STEP.
      config: of the run.
      data: identity of its training data.
      result: content of `result.json`; None while it has not finished.
      history: rows of `metrics.jsonl`.
      latency_us: median time of one row in the engine; None where it was not measured.
    """

    name: str
    path: str
    config: Config
    data: Mapping[str, Any]
    result: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    latency_us: float | None = None


class Failure(NamedTuple):
    """A run that cannot be read, and why."""

    path: str
    reason: str


def find_runs(sources: Sequence[str | Path]) -> list[str]:
    """Run directories among `sources` and in folders up to three levels below them, in order.

    Args:
      sources: RUN, RUN@STEP, or folders that hold runs (of a table, of a sweep).

    Raises:
      ReportError: a source is missing, or holds no run.
    """
    found: dict[str, str] = {}
    for source in map(str, sources):
        name, at, step = source.rpartition("@") if not Path(source).is_dir() else (source, "", "")
        folder = Path(name or source)
        if not folder.is_dir():
            raise ReportError(f"{source}: no such folder; name runs, or folders that hold runs")
        paths = list(_runs_below(folder, 0 if at else _DEPTH))
        if not paths:
            raise ReportError(f"{source} holds no run (a folder with a config.json), {_DEPTH} levels deep")
        for path in paths:
            found.setdefault(f"{path.resolve()}{at}{step}", f"{path}{at}{step}")
    return list(found.values())


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file():
        yield folder
    elif (folder / "members").is_dir():  # a sweep, whose shared warm-ups are no results
        yield from _runs_below(folder / "members", 1)
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _runs_below(child, depth - 1)


def read_records(
    paths: Sequence[str], latencies: Mapping[str, float] | None = None
) -> tuple[list[Record], list[Failure]]:
    """Read runs; those that cannot be read are returned with the reason.

    Args:
      paths: of `find_runs`.
      latencies: of `read_latencies`.
    """
    records, failures = [], []
    for path, name in zip(paths, _short(paths), strict=True):
        try:
            records.append(_read(path, name, latencies or {}))
        except (DeeplightError, OSError, KeyError, TypeError) as error:
            failures.append(Failure(path, str(error)))
    if all(_is_member(Path(r.path)) for r in records):
        records.sort(key=lambda record: record.name)  # their folders' names are in no order
    return records, failures


def _read(path: str, name: str, latencies: Mapping[str, float]) -> Record:
    directory = Path(path if Path(path).is_dir() else path.rpartition("@")[0])
    config, data = run.load_config_of(directory), run.load_data_of(directory)
    result = run.load_result(directory)
    if result is not None:
        missing = {"roc_auc", "log_loss", "params_nonzero", "bytes", "components"} - result.keys()
        if missing:
            raise ReportError(f"{directory / 'result.json'} lacks {', '.join(sorted(missing))}")
    step = path.rpartition("@")[2] if not Path(path).is_dir() else (result or {}).get("best_step")
    if _is_member(directory):
        name = f"{argument_of(config)} {directory.name[:8]}"
    latency = latencies.get(f"{config_hash(config)}@{step}", latencies.get(directory.name))
    return Record(name, path, config, data, result, _history(directory), latency)


def _is_member(directory: Path) -> bool:
    """Whether a run is a sweep's member, whose name is a hash."""
    return directory.parent.name == "members" and (directory.parents[1] / "sweep.json").is_file()


def _history(directory: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; none of a run that has just begun."""
    return run.load_metrics(directory) if (directory / "metrics.jsonl").is_file() else []


def _short(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them share; a lone run keeps its own name."""
    parts = [Path(path).parts for path in paths]
    shared = 0
    while len({p[shared] for p in parts if len(p) > shared + 1}) == 1 and all(
        len(p) > shared + 1 for p in parts
    ):
        shared += 1
    return ["/".join(p[shared:]) for p in parts]


def read_latencies(sources: Sequence[str | Path], bench: Sequence[Path]) -> dict[str, float]:
    """Median microseconds of one row, by HASH@STEP of a config or by the name of a sweep's member.

    Args:
      sources: folders; one that holds a `results.parquet` is a sweep.
      bench: files of `deeplight bench --json`; the artifacts they name must still be there.

    Raises:
      ReportError: a file cannot be read, or does not say what it measured.
    """
    found: dict[str, float] = {}
    for source in sources:
        if (file := Path(source) / "results.parquet").is_file():
            found |= _sweep_latencies(file)
    for file in bench:
        found |= _bench_latency(file)
    return found


def _sweep_latencies(file: Path) -> dict[str, float]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT name, p50_us FROM read_parquet(?)", [str(file)]).fetchall()
    except duckdb.Error as error:
        raise ReportError(f"{file} cannot be read ({error}); write the sweep's results again") from error
    return {str(name): float(latency) for name, latency in rows if latency is not None}


def _bench_latency(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        latency, measured = float(found["figures"][found["ours"]]["p50_us"]), found["settings"]["artifact"]
    except (OSError, ValueError) as error:
        raise ReportError(f"--bench {file} cannot be read ({error})") from error
    except (KeyError, TypeError) as error:
        raise ReportError(f"--bench {file} is no output of `deeplight bench --json`: no {error}") from error
    try:
        about = artifact.load(measured).about
    except DeeplightError as error:
        raise ReportError(f"--bench {file} measured {measured}, which cannot be read: {error}") from error
    if missing := {"config_hash", "step"} - about.keys():
        raise ReportError(
            f"--bench {file} measured {measured}, which names no run (no {', '.join(sorted(missing))})"
        )
    return {f"{about['config_hash']}@{about['step']}": latency}
