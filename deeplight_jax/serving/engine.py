"""Scores rows by a loaded artifact: checked inputs in, logits or probabilities out.

JAX is imported only for an artifact of a model that has no compact form.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving import artifact, native, whole
from deeplight_jax.serving.forward import forward
from deeplight_jax.serving.structure import CACHE_LINE_BYTES, Compact
from deeplight_jax.serving.whole import Whole

_BLOCK_ROWS = 1 << 16  # of a call, looked at together: temporary arrays stay small
_log = logging.getLogger(__name__)
_Run = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


@dataclass(frozen=True)
class Engine:
    """A model ready to score; threads may share it.

    Attributes:
      model: its compact structure, or all its parameters where it has none.
      about: where it comes from and what its certificate says.
      vocabularies: vocabulary files by categorical field.
      path: what computes: "numpy", a vector level of the native engine ("avx512", "avx2", "portable"), or
        "jax" for a model without a compact form.
    """

    model: Compact | Whole
    about: Mapping[str, Any]
    vocabularies: Mapping[str, bytes]
    path: str
    _run: _Run

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
        return self._run(ids, values, True)

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
        return self._run(ids, values, False)


def load(path: str | Path, level: str | None = None) -> Engine:
    """The engine of an artifact.

    Args:
      path: what `deeplight export` wrote.
      level: "numpy", or a vector level of the native engine; by default the fastest that is there. A model
        without a compact form has level "jax" alone.

    Raises:
      ArtifactError: the file is missing, damaged or of another format, or the level or JAX is not there.
    """
    return build(artifact.load(path), level)


def build(found: artifact.Artifact, level: str | None = None) -> Engine:
    """The engine of an artifact in memory; see `load`."""
    if isinstance(found.model, Whole):
        if level not in (None, "jax"):
            name = found.model.model.get("name")
            raise ArtifactError(f"no level {level}: model {name} has no compact form; only JAX serves it")
        run = _checked_run(found.model.schema, whole.forward(found.model))
        return Engine(found.model, found.about, found.vocabularies, "jax", run)
    compact = replace(found.model, table=_aligned(found.model.table))
    if level is None and not native.available():
        _say_once()
        level = "numpy"
    if level == "numpy":
        return Engine(
            compact, found.about, found.vocabularies, "numpy", _checked_run(compact.schema, forward(compact))
        )
    if not native.available():
        raise ArtifactError(f"no level {level}: the native engine was not built; use numpy")
    try:
        score, used = native.load(compact, level)
    except ValueError as error:
        raise ArtifactError(f"{error}; levels: {', '.join(native.LEVELS)}, numpy") from error
    return Engine(compact, found.about, found.vocabularies, used, _native_run(compact.schema, score))


def _native_run(schema: Schema, score: Callable[..., int]) -> _Run:
    """The native scorer, which checks rows itself; what it refuses is found again to be worded."""

    def run(ids: np.ndarray, values: np.ndarray, probabilities: bool) -> np.ndarray:
        try:
            out = np.empty(len(ids), np.float32)
            code = score(ids, values, out, probabilities)
            if not code:
                return out
        except (TypeError, ValueError):  # of another dtype or shape, or not contiguous
            check_arrays(schema, ids, values)
            if not (ids.flags.c_contiguous and values.flags.c_contiguous):
                return run(np.ascontiguousarray(ids), np.ascontiguousarray(values), probabilities)
            raise
        if code == native.OUT_OF_MEMORY:
            raise MemoryError("no memory for a block of rows")
        check_cells(schema, ids, values)
        raise _overflow(out)

    return run


def _checked_run(schema: Schema, logits: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Run:
    """A scorer by NumPy or JAX, which check nothing themselves."""

    def run(ids: np.ndarray, values: np.ndarray, probabilities: bool) -> np.ndarray:
        check_arrays(schema, ids, values)
        check_cells(schema, ids, values)
        with np.errstate(over="ignore", invalid="ignore"):
            out = logits(ids, values)
        if np.isnan(out).any():
            raise _overflow(out)
        for start in range(0, len(out) if probabilities else 0, _BLOCK_ROWS):
            block = out[start : start + _BLOCK_ROWS]
            tail = np.exp(-np.abs(block))
            block[:] = np.where(block >= 0, np.float32(1), tail) / (1 + tail)
        return out

    return run


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
    out = memory[start : start + table.nbytes].view(np.float32).reshape(table.shape)
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
