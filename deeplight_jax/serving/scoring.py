"""Scores of a prepared split as a Parquet or CSV file, block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

from deeplight_jax.data.identity import difference, identity
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving.engine import Engine

_BLOCK_ROWS = 1 << 16
_FORMATS = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".csv": "FORMAT csv, HEADER"}


def score_split(
    engine: Engine,
    data: Prepared,
    split: str,
    out: str | Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Write `row` (0-based, in the split's order), `score` (probability, f32) and `label` of every row.

    Args:
      engine: a loaded artifact.
      data: rows encoded with the vocabularies of its training data.
      split: which of them.
      out: file to write or replace, whole or not at all: `.parquet` or `.csv`.
      progress: called after each block.

    Returns:
      Rows written.

    Raises:
      DataError: the data fits another model, a cell is out of range (row and field are named) or the file's
        ending is not known.
      ArtifactError: the file cannot be written.

    Cost: one block of rows in memory; 13 bytes a row on disk beside `out` until it is whole.
    """
    out, rows = Path(out), data.split(split)
    if out.suffix not in _FORMATS:
        raise DataError(f"{out}: scores are written as {' or '.join(_FORMATS)}")
    if found := difference(identity(data), engine.about["data"], "the artifact's"):
        raise DataError(f"{data.directory}: {found}; encode the rows with `deeplight prepare ... --vocab` "
                        "of its data")  # fmt: skip
    try:
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            with duckdb.connect(str(Path(folder, "scores.duckdb"))) as table:
                table.execute("CREATE TABLE scores (row BIGINT, score FLOAT, label UTINYINT)")
                for start in range(0, rows.rows, _BLOCK_ROWS):
                    stop = min(start + _BLOCK_ROWS, rows.rows)
                    _append(table, engine, rows.ids[start:stop], rows.values[start:stop],
                            rows.label[start:stop], start)  # fmt: skip
                    if progress:
                        progress("scoring", stop, rows.rows)
                written = Path(folder, f"scores{out.suffix}")
                name = str(written).replace("'", "''")
                table.execute(f"COPY scores TO '{name}' ({_FORMATS[out.suffix]})")
            written.replace(out)
    except (OSError, duckdb.Error) as error:
        raise ArtifactError(f"cannot write {out} ({error}); name another --out") from error
    return rows.rows


def _append(
    table: duckdb.DuckDBPyConnection,
    engine: Engine,
    ids: np.ndarray,
    values: np.ndarray,
    label: np.ndarray,
    start: int,
) -> None:
    try:
        score = engine.score(np.asarray(ids), np.asarray(values))
    except DataError as error:
        raise DataError(f"rows from {start} on: {error}") from error
    block = {"row": np.arange(start, start + len(ids)), "score": score, "label": np.asarray(label)}
    table.execute("INSERT INTO scores SELECT * FROM block")
    del block  # found by its name in the statement
