"""A sweep's results: what each member came to and what the serving engine measured of it, also as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from deeplight_jax.errors import ArtifactError, RunError
from deeplight_jax.sweeping import ledger

Row = dict[str, Any]
_MEASURED = ("p50_us", "p99_us", "rows_per_s", "engine_bytes", "load_ms")
_METRICS = ("roc_auc", "log_loss", "calibration_ratio")
_COUNTS = ("params_total", "params_nonzero", "bytes", "best_step", "steps")


def rows(directory: Path) -> list[Row]:
    """A row a member, in the sweep's order.

    Returns:
      `name`, `state` ("done", "failed" or "open"), the keys that vary, `valid_*` and `test_*` metrics (test
      of chosen members alone), `rate_*` by component, counts, `p50_us`, `p99_us`, `rows_per_s` (of the
      largest batch measured), `engine_bytes`, `load_ms`, `seconds` and `error`; None where there is nothing.
    """
    return [_row(directory, member) for member in ledger.read_sweep(directory)["members"]]


def write_results(directory: Path) -> Path:
    """Write results.parquet anew, whole or not at all; returns its path.

    Raises:
      RunError: it cannot be written.
    """
    found, out = rows(directory), directory / "results.parquet"
    columns = {key: _type([row.get(key) for row in found]) for row in found for key in row}
    names = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    values = [[_cell(row.get(name)) for name in columns] for row in found]
    try:
        with TemporaryDirectory(dir=directory, prefix=".results.") as folder:
            with duckdb.connect() as table:
                table.execute(f"CREATE TABLE results ({names})")
                table.executemany(f"INSERT INTO results VALUES ({', '.join('?' * len(columns))})", values)
                written = Path(folder, out.name)
                name = str(written).replace("'", "''")
                table.execute(f"COPY results TO '{name}' (FORMAT parquet)")
            written.replace(out)
    except (OSError, duckdb.Error) as error:
        raise RunError(f"cannot write {out} ({error})") from error
    return out


def measure_members(
    directory: Path, names: Sequence[str], progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Measure the serving engine of finished members that have no engine.json, one after the other.

    A member whose model has no compact form gets the reason instead.
    """
    due = [n for n in names if ledger.read_part(directory, n, "result") and not _engine(directory, n)]
    for done, name in enumerate(due):
        try:
            found = _measure(ledger.place(directory, name))
        except ArtifactError as error:
            found = {"unavailable": str(error)}
        ledger.write_part(directory, name, "engine", found)
        if progress:
            progress("measuring engines", done + 1, len(due))


def _measure(workdir: Path) -> dict[str, Any]:
    from deeplight_jax.serving.artifact import Artifact
    from deeplight_jax.serving.bench import measure_engine
    from deeplight_jax.serving.compact import compact
    from deeplight_jax.serving.engine import build
    from deeplight_jax.training.inspect import load_run

    found = load_run(workdir)
    engine = build(Artifact(compact(found.config.model, found.schema, found.params), {}, {}))
    figures = measure_engine(engine, rows="cold")
    return {
        "p50_us": figures.p50_us,
        "p99_us": figures.p99_us,
        "rows_per_s": figures.rows_per_s[max(figures.rows_per_s)],
        "engine_bytes": figures.model_bytes + figures.table_bytes,
        "load_ms": figures.load_ms,
        "level": engine.path,
    }


def _engine(directory: Path, name: str) -> dict[str, Any] | None:
    return ledger.read_part(directory, name, "engine")


def _row(directory: Path, member: dict[str, Any]) -> Row:
    name = member["name"]
    result = ledger.read_part(directory, name, "result") or {}
    failure = ledger.read_part(directory, name, "failure") or {}
    engine, test = _engine(directory, name) or {}, ledger.read_part(directory, name, "test") or {}
    state = "done" if result else "failed" if failure else "open"
    return {
        "name": name,
        "state": state,
        **member["point"],
        **{f"valid_{key}": result.get(key) for key in _METRICS},
        **{f"test_{key}": test.get(key) for key in _METRICS},
        **{f"rate_{code}": part["rate"] for code, part in result.get("components", {}).items()},
        **{key: result.get(key) for key in _COUNTS},
        **{key: engine.get(key) for key in _MEASURED},
        "seconds": result.get("wall_s"),
        "error": None if result else failure.get("error"),
    }


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value


def _type(values: Sequence[Any]) -> str:
    """The SQL type of a column."""
    kinds = {type(_cell(v)) for v in values if v is not None}
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {int}:
        return "BIGINT"
    return "DOUBLE" if kinds and kinds <= {int, float} else "VARCHAR"
