"""What a raw click log looks like and how its rows become ids and values: recipes as plain values.

A changed option is a changed recipe: `dataclasses.replace(CRITEO, min_count=4, numeric="bucket")`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from deeplight_jax.data.hashing import QUOTIENT, Hashed, Spec, parse_spec
from deeplight_jax.data.schema import Kind
from deeplight_jax.errors import DataError, did_you_mean

Numeric = Literal["value", "floor", "bucket"]
Delimiter = Literal["auto", "\t", ",", " "]
VocabScope = Literal["train", "all"]
SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
_FILE_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")  # a column's vocabulary is a file of its name
_MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class Recipe:
    """Columns of a raw log and the options that turn them into a prepared data set.

    A raw number x becomes log(x)^2 (natural logarithm) where x > 2 and stays x elsewhere; missing is 0.

    Attributes:
      name: what the command line calls it.
      columns: names of all raw columns in file order.
      label: the column that holds 0 or 1; "" where there is none: such rows can be scored, not prepared.
      numeric_columns: columns of numbers; all other columns that have no other role are categorical.
      ignored_columns: columns that are not read.
      split_column: the column that says train, valid or test; "" draws the splits.
      delimiter: of the raw files; "auto" picks tab or comma for each file from its first lines; a space is
        libsvm's, whose cells are INDEX:1 and whose label may be -1.
      header: True: every file begins with a line that names `columns`, and a file without it is refused;
        False: a first line that names them is skipped where there is one.
      quote: read `"` around the cells of comma-separated files; in tab-separated files it is data always.
      scientific: numbers may be written 1e-05, +3 or .5, too.
      numeric: "value" as above; "floor" rounds it down to an integer, as the authors' program does; "bucket"
        makes each numeric column a categorical field of these integers (missing is a value of its own).
      min_count: times a categorical value must be seen to get an id of its own.
      vocab_scope: rows counted for `min_count`: those of the train split, or all (the authors' program).
      test_fraction: share of the rows drawn for the test split.
      valid_fraction: share of the remaining rows drawn for the validation split.
      split_seed: of these draws.
      hash_buckets: "COLUMN=ROWS" or "COLUMN=ROWS:qr" for each categorical column that is hashed to table rows
        instead of having a vocabulary (see `hashing`).

    Raises:
      DataError: an option is out of its range or names a column that is not there.
    """

    name: str
    columns: tuple[str, ...]
    label: str
    numeric_columns: tuple[str, ...]
    min_count: int
    test_fraction: float
    ignored_columns: tuple[str, ...] = ()
    split_column: str = ""
    delimiter: Delimiter = "auto"
    header: bool = False
    quote: bool = True
    scientific: bool = False
    numeric: Numeric = "value"
    vocab_scope: VocabScope = "train"
    valid_fraction: float = 0.1
    split_seed: int = 0
    hash_buckets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def refuse(option: str, remedy: str) -> DataError:
            return DataError(f"recipe {self.name}: {option} = {getattr(self, option)!r}; {remedy}")

        if len(set(self.columns)) != len(self.columns) or len(self.columns) < 1 + bool(self.label):
            raise refuse("columns", "name a label and at least one more column, each once")
        for name in self.columns:
            if not _FILE_NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_BYTES:
                raise DataError(
                    f"recipe {self.name}: column {name!r} cannot name a file; rename it: no / or \\, no "
                    f"control characters, no leading dot, at most {_MAX_NAME_BYTES} bytes"
                )
        if self.label and self.label not in self.columns:
            raise refuse("label", "it must be one of the columns")
        if not set(self.numeric_columns) <= set(self.columns) - {self.label}:
            raise refuse("numeric_columns", "they must be columns other than the label")
        roles = (self.label, *self.numeric_columns)
        if not set(self.ignored_columns) <= set(self.columns) - set(roles):
            raise refuse("ignored_columns", "they must be columns other than the label and the numeric ones")
        if self.split_column and self.split_column not in set(self.columns) - {*roles, *self.ignored_columns}:
            raise refuse("split_column", "it must be a column that has no other role")
        if not self.fields:
            raise refuse("columns", "a column beside the label must be left to predict from")
        for option, choices in (("delimiter", Delimiter), ("numeric", Numeric), ("vocab_scope", VocabScope)):
            if getattr(self, option) not in get_args(choices):
                raise refuse(option, f"choose one of {', '.join(map(repr, get_args(choices)))}")
        if self.min_count < 1:
            raise refuse("min_count", "it must be 1 or more")
        for option in ("test_fraction", "valid_fraction"):
            if not 0 <= getattr(self, option) < 1:
                raise refuse(option, "it must be at least 0 and below 1")
        if not 0 <= self.split_seed < 2**63:
            raise refuse("split_seed", "it must be at least 0 and below 2^63")
        self._check_hashed()

    @property
    def categorical_columns(self) -> tuple[str, ...]:
        """All columns that have no other role, in file order."""
        others = {self.label, self.split_column, *self.numeric_columns, *self.ignored_columns}
        return tuple(c for c in self.columns if c not in others)

    @property
    def encoded_columns(self) -> tuple[str, ...]:
        """Columns whose values become ids: the bucketed numeric ones before the others."""
        return (*(self.numeric_columns if self.numeric == "bucket" else ()), *self.categorical_columns)

    @property
    def hashed_columns(self) -> dict[str, Spec]:
        """How the columns without a vocabulary are hashed."""
        specs = map(parse_spec, self.hash_buckets)
        return {spec.column: spec for spec in specs}

    @property
    def encoded_fields(self) -> tuple[tuple[str, int, Hashed | None], ...]:
        """Name, index among `encoded_columns` and, if hashed, encoder of each categorical field, in order."""
        found: list[tuple[str, int, Hashed | None]] = []
        specs = self.hashed_columns
        for at, name in enumerate(self.encoded_columns):
            spec = specs.get(name)
            found.append((name, at, spec and Hashed(spec.rows)))
            if spec and spec.quotient:
                found.append((name + QUOTIENT, at, Hashed(spec.rows, quotient=True)))
        return tuple(found)

    @property
    def fields(self) -> tuple[tuple[str, Kind], ...]:
        """Name and kind of each field in the order of the schema: numeric ones before the others."""
        numeric = () if self.numeric == "bucket" else self.numeric_columns
        categorical = (name for name, _, _ in self.encoded_fields)
        return (*((name, "numeric") for name in numeric), *((name, "categorical") for name in categorical))

    def _check_hashed(self) -> None:
        given = [parse_spec(text) for text in self.hash_buckets]
        for spec in given:
            if spec.column not in self.encoded_columns:
                near = did_you_mean(spec.column, self.encoded_columns)
                raise DataError(
                    f"hash_buckets: {spec.column!r} is no categorical column of recipe {self.name}{near}"
                )
            if [s.column for s in given].count(spec.column) > 1:
                raise DataError(f"hash_buckets: {spec.column} is hashed twice; write it once")
            if spec.quotient and spec.column + QUOTIENT in self.columns:
                raise DataError(
                    f"hash_buckets: the quotients of {spec.column} need the name {spec.column + QUOTIENT}, "
                    "which another column has; rename that"
                )

    def to_json(self) -> dict[str, Any]:
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Recipe:
        """What `to_json` gave.

        Raises:
          DataError: it is no recipe of this version.
        """
        try:
            options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
            return Recipe(**options)
        except (TypeError, AttributeError) as error:
            raise DataError(f"not a recipe of this version ({error}); prepare the data again") from error


_CRITEO_NUMERIC = tuple(f"I{i}" for i in range(1, 14))
_CRITEO_CATEGORICAL = tuple(f"C{i}" for i in range(1, 27))

CRITEO = Recipe(
    name="criteo",
    columns=("label", *_CRITEO_NUMERIC, *_CRITEO_CATEGORICAL),
    label="label",
    numeric_columns=_CRITEO_NUMERIC,
    min_count=8,
    test_fraction=0.1,
)
"""Criteo Kaggle Display Advertising Challenge, `train.txt`: tab-separated, no header, empty = missing."""

AVAZU = Recipe(
    name="avazu",
    columns=(
        *("id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category"),
        *("app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model", "device_type"),
        *("device_conn_type", "C14", "C15", "C16", "C17", "C18", "C19", "C20", "C21"),
    ),
    label="click",
    numeric_columns=(),
    min_count=5,
    test_fraction=0.2,
    delimiter=",",
    header=True,
)
"""Avazu Kaggle CTR prediction, `train.csv`: 24 columns, 23 fields, all categorical.

As in the paper, the row's `id` is one of the fields: its values are unique, so `min_count` leaves the unknown
row alone. `hour` (YYMMDDHH) is taken raw, as the authors' program does: later days fall on the unknown row.
"""

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (CRITEO, AVAZU)}
