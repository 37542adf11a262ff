"""Scores rows by a loaded artifact: checked inputs in, logits or probabilities out.

JAX is imported only for an artifact of a model that has no compact form.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving import artifact, native, whole
from deeplight_jax.serving.forward import forward
from deeplight_jax.serving.native import Native, Score
from deeplight_jax.serving.ranking import Columns, assemble
from deeplight_jax.serving.structure import Compact
from deeplight_jax.serving.tables import CACHE_LINE_BYTES
from deeplight_jax.serving.whole import Whole

_BLOCK_ROWS = 1 << 16  # of a call, looked at together: temporary arrays stay small
_log = logging.getLogger(__name__)
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Engine:
    """A model ready to score; threads may share it.

    Attributes:
      model: its compact structure, or all its parameters where it has none.
      about: where it comes from and what its certificate says.
      vocabularies: vocabulary files by categorical field.
      path: what computes: "numpy", a vector level of the native engine ("avx512", "avx2", "portable"), or
        "jax" for a model without a compact form.
      native: the native engine, if it computes.
    """

    model: Compact | Whole
    about: Mapping[str, Any]
    vocabularies: Mapping[str, bytes]
    path: str
    native: Native | None
    _score: Score
    _logits: Score

    def __repr__(self) -> str:
        kinds = f"{len(self.schema.numeric)} numeric, {len(self.schema.categorical)} categorical fields"
        name = self.about.get("model", {}).get("name", "model")
        return f"Engine({name}, {self.path}, {kinds}, {self.schema.num_rows:,} table rows)"

    @property
    def schema(self) -> Schema:
        return self.model.schema

    @property
    def compact(self) -> Compact:
        """The compact structure.

        Raises:
          ArtifactError: the model has none.
        """
        return artifact.compact_of(self.model)

    def score(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Click probabilities f32[row]; see `logits`."""
        return self._score(ids, values)

    def logits(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits of rows.

        Args:
          ids: i32[row, categorical], each within its field's vocabulary; 0 is its unknown value.
          values: f32[row, numeric], transformed as the training data was; 0 is missing.

        Returns:
          f32[row]; no rows give none.

        Raises:
          DataError: wrong dtype or shape, an id outside its field, a value that is NaN or infinite, or so
            large that the logit is not a number. The first such row and its field are named.
        """
        return self._logits(ids, values)

    def rank(self, context: Mapping[str, int | float], candidates: Columns) -> np.ndarray:
        """Click probabilities of one user's candidates, whose rows share the context's cells.

        Args:
          context: id or value by field, of the fields in which the candidates do not differ.
          candidates: of each other field, ids int[candidate] or values float[candidate].

        Returns:
          f32[candidate], in the candidates' order: what `score` gives for the rows put together, bit for bit.

        Raises:
          DataError: a field is missing, unknown or given twice, a column does not fit, or a cell cannot be
            scored; it is named.

        Cost: that of `score` and of writing the rows; nothing that the rows share is computed once for all.
        """
        return self._score(*assemble(self.schema, context, candidates))


def load(path: str | Path, level: str | None = None, threads: int = 1) -> Engine:
    """The engine of an artifact.

    Args:
      path: what `deeplight export` wrote.
      level: "numpy", or a vector level of the native engine; by default the fastest that is there. A model
        without a compact form has level "jax" alone.
      threads: most threads that a batch is split over by the native engine, 1,024 rows each at least; the
        scores are the same, bit for bit. They are started for each call: callers that score in threads of
        their own leave it at 1.

    Raises:
      ArtifactError: the file is missing, damaged or of another format, or the level or JAX is not there.
    """
    return build(artifact.load(path), level, threads)


def build(found: artifact.Artifact, level: str | None = None, threads: int = 1) -> Engine:
    """The engine of an artifact in memory; see `load`."""
    if not 1 <= threads <= _MOST_THREADS:
        raise ArtifactError(f"threads is {threads}, it must be 1 to {_MOST_THREADS}")
    if isinstance(found.model, Whole):
        if level not in (None, "jax"):
            name = found.model.model.get("name")
            raise ArtifactError(f"no level {level}: model {name} has no compact form; only JAX serves it")
        runs = _checked_run(found.model.schema, whole.forward(found.model))
        return Engine(found.model, found.about, found.vocabularies, "jax", None, *runs)
    compact = replace(found.model, table=_aligned(found.model.table))
    if level is None and not native.available():
        _say_once()
        level = "numpy"
    if level == "numpy":
        runs = _checked_run(compact.schema, forward(compact))
        return Engine(compact, found.about, found.vocabularies, "numpy", None, *runs)
    if not native.available():
        raise ArtifactError(f"no level {level}: the native engine was not built; use numpy")
    try:
        loaded = native.load(compact, level)
    except ValueError as error:
        raise ArtifactError(f"{error}; levels: {', '.join(native.LEVELS)}, numpy") from error
    runs = _native_run(compact.schema, loaded, threads)
    return Engine(compact, found.about, found.vocabularies, loaded.level, loaded, *runs)


def _native_run(schema: Schema, loaded: Native, threads: int) -> tuple[Score, Score]:
    """Scores and logits by the native engine, which checks rows itself; what it refuses is found again here,
    to be worded."""

    def run(probabilities: bool, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        check_arrays(schema, ids, values)
        out = np.empty(len(ids), np.float32)
        given = np.require(ids, requirements=["C", "A"]), np.require(values, requirements=["C", "A"])
        code = loaded.score(*given, out, probabilities, threads)
        if not code:
            return out
        if code == native.OUT_OF_MEMORY:
            raise MemoryError("no memory for a block of rows")
        check_cells(schema, ids, values)
        raise _overflow(out)

    return loaded.scorer(True, threads, partial(run, True)), loaded.scorer(
        False, threads, partial(run, False)
    )


def _checked_run(schema: Schema, forwarded: Score) -> tuple[Score, Score]:
    """Scores and logits by NumPy or JAX, which check nothing themselves."""

    def logits(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        check_arrays(schema, ids, values)
        check_cells(schema, ids, values)
        with np.errstate(over="ignore", invalid="ignore"):
            out = forwarded(ids, values)
        if np.isnan(out).any():
            raise _overflow(out)
        return out

    def score(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        out = logits(ids, values)
        for start in range(0, len(out), _BLOCK_ROWS):
            block = out[start : start + _BLOCK_ROWS]
            tail = np.exp(-np.abs(block))
            block[:] = np.where(block >= 0, np.float32(1), tail) / (1 + tail)
        return out

    return score, logits


def _overflow(logits: np.ndarray) -> DataError:
    row = int(np.flatnonzero(np.isnan(logits))[0])
    return DataError(f"row {row}: its logit is not a number; its values are too large for float32")


@cache
def _say_once() -> None:
    _log.warning(
        "the native engine was not built: scoring by NumPy, many times slower; install a C++ compiler and "
        "this package again"
    )


def _aligned(table: np.ndarray) -> np.ndarray:
    """The table where no row straddles cache lines."""
    if table.ctypes.data % CACHE_LINE_BYTES == 0:
        return table
    memory = np.empty(table.nbytes + CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    out = memory[start : start + table.nbytes].view(table.dtype).reshape(table.shape)
    out[:] = table
    return out


def check_arrays(schema: Schema, ids: np.ndarray, values: np.ndarray) -> None:
    """Dtypes and shapes.

    Raises:
      DataError: naming the argument, what it is and what it must be.
    """
    for name, array, dtype, fields in (
        ("ids", ids, np.int32, schema.categorical),
        ("values", values, np.float32, schema.numeric),
    ):
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            wanted = np.dtype(dtype).name
            raise DataError(f"{name} must be a NumPy array of {wanted}, not {found}; convert it first")
        if array.ndim != 2 or array.shape[1] != len(fields):
            kind = "categorical" if name == "ids" else "numeric"
            raise DataError(
                f"{name} has shape {list(array.shape)}, it must be [row, {len(fields)}]: "
                f"a column for each {kind} field"
            )
    if len(ids) != len(values):
        raise DataError(f"ids has {len(ids)} rows and values {len(values)}; give one of each for a row")


def check_cells(schema: Schema, ids: np.ndarray, values: np.ndarray) -> None:
    """Ranges: every id inside its field, every value finite.

    Raises:
      DataError: naming the first row at fault, its field and its cell; ids are looked at before values.

    Cost: two passes over the arrays, a block of rows at a time.
    """
    sizes = np.array([f.size for f in schema.categorical], np.uint32)

    def outside(block: np.ndarray) -> np.ndarray:
        return block.astype(np.uint32) >= sizes  # a negative id wraps to one past any table

    if found := _first_cell(ids, outside):
        row, column = found
        field = schema.categorical[column]
        raise DataError(
            f"row {row}, field {field.name}: id {ids[row, column]} is outside 0 to {field.size - 1}; "
            "encode the rows with the model's vocabulary, in which 0 is the unknown value"
        )
    if found := _first_cell(values, lambda block: ~np.isfinite(block)):
        row, column = found
        raise DataError(
            f"row {row}, field {schema.numeric[column].name}: {values[row, column]} is not finite; "
            "give 0 for a missing value"
        )


def _first_cell(cells: np.ndarray, is_bad: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int] | None:
    """Row and column of the first bad cell, looked for in bounded memory."""
    for start in range(0, len(cells), _BLOCK_ROWS):
        bad = is_bad(cells[start : start + _BLOCK_ROWS])
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            return start + row, column
    return None
