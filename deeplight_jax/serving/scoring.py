"""Scores of a prepared split as a Parquet or CSV file, block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

from deeplight_jax.data.identity import difference, identity
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving.engine import Engine

BLOCK_ROWS = 1 << 16  # scored together
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
      ArtifactError: the artifact names no data, or the file cannot be written.

    Cost: one block of rows in memory; 13 bytes a row on disk beside `out` until it is whole.
    """
    rows = data.split(split)
    if "data" not in engine.about:
        raise ArtifactError("the artifact does not say what data it was trained on; export one from a run")
    if found := difference(identity(data), engine.about["data"], "the artifact's"):
        raise DataError(f"{data.directory}: {found}; encode the rows with `deeplight prepare ... --vocab` "
                        "of its data")  # fmt: skip
    with score_table(Path(out), "row BIGINT, score FLOAT, label UTINYINT", "row, score, label") as append:
        for start in range(0, rows.rows, BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, rows.rows))
            score = score_block(engine, rows.ids[block], rows.values[block], f"rows from {start} on")
            append({"row": np.arange(start, block.stop), "score": score, "label": rows.label[block]})
            if progress:
                progress("scoring", block.stop, rows.rows)
    return rows.rows


@contextmanager
def score_table(out: Path, columns: str, select: str) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    """A file of scores that grows by blocks of columns and is there when the block ends without an error.

    Args:
      out: file to write or replace: `.parquet` or `.csv`.
      columns: names and DuckDB types.
      select: expressions over the columns of a block that give them.

    Raises:
      DataError: the file's ending is not known.
      ArtifactError: the file cannot be written.
    """
    if out.suffix not in _FORMATS:
        raise DataError(f"{out}: scores are written as {' or '.join(_FORMATS)}")
    try:
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            with duckdb.connect(str(Path(folder, "scores.duckdb"))) as table:
                table.execute(f"CREATE TABLE scores ({columns})")

                def append(block: Mapping[str, np.ndarray]) -> None:
                    given = {name: np.asarray(column) for name, column in block.items()}
                    table.execute(f"INSERT INTO scores SELECT {select} FROM given")
                    del given  # found by its name in the statement

                yield append
                written = Path(folder, f"scores{out.suffix}")
                name = str(written).replace("'", "''")
                table.execute(f"COPY scores TO '{name}' ({_FORMATS[out.suffix]})")
            written.replace(out)
    except (OSError, duckdb.Error) as error:
        raise ArtifactError(f"cannot write {out} ({error}); name another --out") from error


def score_block(engine: Engine, ids: np.ndarray, values: np.ndarray, where: str) -> np.ndarray:
    """Probabilities f32[row] of a block of rows.

    Raises:
      DataError: a cell is out of range; `where` says of which block.
    """
    try:
        return engine.score(np.asarray(ids), np.asarray(values))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
