"""Scores rows by a loaded artifact: checked inputs in, logits or probabilities out. Needs no JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import DataError
from deeplight_jax.serving import artifact
from deeplight_jax.serving.forward import forward
from deeplight_jax.serving.structure import Compact


@dataclass(frozen=True)
class Engine:
    """A model ready to score.

    Attributes:
      compact: its structure.
      about: where it comes from and what its certificate says.
      vocabularies: vocabulary files by categorical field.
      forward: checked ids i32[row, categorical] and values f32[row, numeric] to logits f32[row].
      path: what computes: "numpy".
    """

    compact: Compact
    about: Mapping[str, Any]
    vocabularies: Mapping[str, bytes]
    forward: Callable[[np.ndarray, np.ndarray], np.ndarray]
    path: str = "numpy"

    @property
    def schema(self) -> Schema:
        return self.compact.schema

    def score(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Click probabilities f32[row]; see `logits`."""
        z = self.logits(ids, values)
        tail = np.exp(-np.abs(z))
        return np.where(z >= 0, np.float32(1), tail) / (1 + tail)

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
        check_arrays(self.schema, ids, values)
        check_cells(self.schema, ids, values)
        with np.errstate(over="ignore", invalid="ignore"):
            out = self.forward(ids, values)
        if (bad := np.flatnonzero(np.isnan(out))).size:
            raise DataError(f"row {bad[0]}: its logit is not a number; its values are too large for float32")
        return out


def load(path: str | Path) -> Engine:
    """The engine of an artifact.

    Raises:
      ArtifactError: the file is missing, damaged or of another format.
    """
    return build(artifact.load(path))


def build(found: artifact.Artifact) -> Engine:
    """The engine of an artifact in memory."""
    return Engine(found.compact, found.about, found.vocabularies, forward(found.compact))


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
      DataError: naming the first row at fault, its field and its cell.
    """
    sizes = np.array([f.size for f in schema.categorical], np.uint32)
    outside = ids.astype(np.uint32) >= sizes  # a negative id wraps to one past any table
    if outside.any():
        row, column = np.argwhere(outside)[0]
        field = schema.categorical[column]
        raise DataError(
            f"row {row}, field {field.name}: id {ids[row, column]} is outside 0 to {field.size - 1}; "
            "encode the rows with the model's vocabulary, in which 0 is the unknown value"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"row {row}, field {schema.numeric[column].name}: {values[row, column]} is not finite; "
            "give 0 for a missing value"
        )
