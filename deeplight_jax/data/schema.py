"""What a prepared row is: its fields, their rows in the embedding table, and a batch of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from deeplight_jax.errors import DataError

Kind = Literal["numeric", "categorical"]
_MAX_ROWS = 2**31 - 1  # row numbers are i32


class Batch(NamedTuple):
    """Rows on their way into a model.

    Attributes:
      ids: i32[batch, categorical], row of each categorical value within its own field; 0 = unknown:
        unseen, or seen too seldom, in the vocabulary's rows.
      values: f32[batch, numeric], transformed numeric values (0 = missing).
      label: f32[batch], 1 for a click.
      weight: f32[batch], 1 for a row, 0 for padding behind the last row of a split.
    """

    ids: Any
    values: Any
    label: Any
    weight: Any


@dataclass(frozen=True)
class Field:
    """One column of a click log; `size` counts its rows in the embedding table (1 if numeric)."""

    name: str
    kind: Kind
    size: int


@dataclass(frozen=True)
class Schema:
    """The fields of a data set, numeric ones first: numeric field i owns table row i.

    A numeric field has a single embedding row that its value scales, so a batch carries no id for it;
    categorical fields follow, each with `size` consecutive rows starting at its offset.

    Raises:
      DataError: no field, a repeated name, a size that does not fit the kind, a numeric field behind a
        categorical one, or more table rows than i32 counts.
    """

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [f.name for f in self.fields]
        if not names:
            raise DataError("a schema needs at least one field")
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise DataError(f"field names repeat: {', '.join(repeated)}; give each field its own name")
        kinds = [f.kind for f in self.fields]
        if kinds != sorted(kinds, key=("numeric", "categorical").index):
            raise DataError("numeric fields must come before categorical ones")
        if self.num_rows > _MAX_ROWS:
            raise DataError(
                f"the fields have {self.num_rows:,} table rows, the limit is {_MAX_ROWS:,}; "
                "raise --min-count or hash the largest fields (--hash-buckets)"
            )
        for f in self.fields:
            if f.size < 1 or (f.kind == "numeric" and f.size != 1):
                raise DataError(f"field {f.name}: a {f.kind} field cannot have {f.size} table rows")

    @property
    def numeric(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.kind == "numeric")

    @property
    def categorical(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.kind == "categorical")

    @property
    def num_fields(self) -> int:
        return len(self.fields)

    @cached_property
    def num_rows(self) -> int:
        """Rows of the embedding table, all fields together."""
        return sum(f.size for f in self.fields)

    @cached_property
    def offsets(self) -> np.ndarray:
        """i32[categorical]: first table row of each categorical field."""
        sizes = [f.size for f in self.categorical]
        starts = len(self.numeric) + np.concatenate([[0], np.cumsum(sizes)[:-1]]) if sizes else []
        return np.asarray(starts, np.int32)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of the unordered field pairs, in the order of the field-pair weights R."""
        return tuple(combinations([f.name for f in self.fields], 2))

    def to_json(self) -> list[dict[str, Any]]:
        return [{"name": f.name, "kind": f.kind, "size": f.size} for f in self.fields]

    @staticmethod
    def from_json(rows: Sequence[Mapping[str, Any]]) -> Schema:
        return Schema(tuple(Field(str(r["name"]), r["kind"], int(r["size"])) for r in rows))


def field_pairs(num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column indices of the unordered field pairs, in the order of `Schema.pairs`.

    Returns:
      i64[pair], i64[pair] with first < second; pair = n(n-1)/2.
    """
    return np.triu_indices(num_fields, k=1)
