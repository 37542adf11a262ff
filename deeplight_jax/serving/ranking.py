"""Rows of one user and many ads: the context's cells once, beside each candidate's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import DataError

Columns = Mapping[str, np.ndarray | Sequence[Any]]


def assemble(
    schema: Schema, context: Mapping[str, int | float], candidates: Columns
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to score: i32[candidate, categorical], f32[candidate, numeric]; see `Engine.rank`.

    Raises:
      DataError: a field is missing, unknown or given twice, or a column does not fit; it is named.
    """
    _check_names(schema, context, candidates)
    columns = {name: _array(column, "candidates", name) for name, column in candidates.items()}
    rows = _length(columns)
    ids = np.empty((rows, len(schema.categorical)), np.int32)
    values = np.empty((rows, len(schema.numeric)), np.float32)
    with np.errstate(over="ignore"):  # a value past float32 becomes infinite, which the engine names
        for fields, out in ((schema.categorical, ids), (schema.numeric, values)):
            out[:] = np.array([_shared(field, context) for field in fields], out.dtype)
            for at, field in enumerate(fields):
                if field.name in columns:
                    out[:, at] = _cells(field, columns[field.name], "candidates")
    return ids, values


def _shared(field: Field, context: Mapping[str, Any]) -> Any:
    """The context's cell; 0 where candidates have their own. NumPy is asked only where Python cannot tell."""
    given = context.get(field.name, 0)
    categorical = field.kind == "categorical"
    plain = (type(given) is int and 0 <= given < field.size) if categorical else type(given) is float
    return given if plain else _cells(field, _array(given, "context", field.name), "context")


def _array(given: Any, where: str, name: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of several lengths
        raise DataError(f"{where}, field {name}: {error}") from error


def _check_names(schema: Schema, context: Mapping[str, Any], candidates: Columns) -> None:
    known = {field.name for field in schema.fields}
    if not candidates:
        raise DataError("candidates names no field; give a column for each field in which the rows differ")
    if unknown := sorted((context.keys() | candidates.keys()) - known):
        raise DataError(f"the model has no field {', '.join(unknown[:5])}")
    if twice := sorted(context.keys() & candidates.keys()):
        raise DataError(f"field {', '.join(twice[:5])} is both the context's and the candidates'")
    if missing := [f.name for f in schema.fields if f.name not in context and f.name not in candidates]:
        raise DataError(
            f"no cell for field {', '.join(missing[:5])}; 0 is its unknown id or its missing value"
        )


def _length(columns: Mapping[str, np.ndarray]) -> int:
    first = next(iter(columns))
    for name, column in columns.items():
        if column.ndim != 1:
            raise DataError(f"candidates, field {name}: its shape is {list(column.shape)}, not [candidate]")
        if len(column) != len(columns[first]):
            raise DataError(
                f"candidates: field {first} has {len(columns[first])} cells and {name} {len(column)}"
            )
    return len(columns[first])


def _cells(field: Field, given: np.ndarray, where: str) -> np.ndarray:
    """Cells of the field's kind that its 32 bits hold."""
    categorical = field.kind == "categorical"
    if given.dtype.kind not in ("iu" if categorical else "iuf") and given.size:
        wanted = "an id, a whole number" if categorical else "a number"
        raise DataError(f"{where}, field {field.name}: {given.dtype} where {wanted} is wanted")
    if where == "context" and given.ndim:
        raise DataError(f"context, field {field.name}: its shape is {list(given.shape)}; give one number")
    if given.dtype == np.int32 and where == "candidates":
        return given  # the engine looks at each cell
    if categorical and given.size and not (given.min() >= 0 and given.max() < field.size):
        outside = given.reshape(-1)[(given < 0).reshape(-1) | (given >= field.size).reshape(-1)][0]
        raise DataError(
            f"{where}, field {field.name}: id {outside} is outside 0 to {field.size - 1}; "
            "0 is the unknown value"
        )
    return given
