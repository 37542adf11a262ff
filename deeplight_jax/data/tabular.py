"""Recipes for any tabular click log: CSV or TSV with a small column config, and libsvm's one-hot lines."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from deeplight_jax.data.rawlines import first_line, header_names
from deeplight_jax.data.recipes import Recipe
from deeplight_jax.errors import DataError, did_you_mean

_ROLES = {"label": str, "numeric": list, "categorical": list, "split": str, "columns": list}
_OPTIONS: dict[str, type] = {
    "delimiter": str,
    "min_count": int,
    "test_fraction": float,
    "valid_fraction": float,
    "split_seed": int,
    "vocab_scope": str,
    "hash_buckets": list,
}
_DEFAULTS = {"min_count": 1, "test_fraction": 0.1}
_KEYS = {**_ROLES, **_OPTIONS}


def csv_recipe(columns: str | Path, raw: str | Path) -> Recipe:
    """The recipe that a column config describes.

    Args:
      columns: a TOML file. `label = "click"`; `numeric = [...]` and `categorical = [...]` name columns of the
        header, all others are left unread; `split = "fold"` names a column that holds train, valid or test;
        `columns = [...]` names the columns of files without a header; `delimiter`, `min_count` (default 1),
        `test_fraction` (0.1), `valid_fraction` (0.1), `split_seed`, `vocab_scope` and `hash_buckets` as
        in `Recipe`.
      raw: the first raw file, whose header says how the columns follow each other.

    Raises:
      DataError: a file cannot be read, or a key or a column is unknown (the nearest known one is named), of
        the wrong type or without use.
    """
    path = Path(columns)
    given = _read(path)
    names = given.get("columns") or _header(Path(raw), given.get("delimiter", "auto"))
    numeric, categorical = given.get("numeric", []), given.get("categorical", [])
    used = [given["label"], *numeric, *categorical, *filter(None, [given.get("split")])]
    for name in used:
        if name not in names:
            raise DataError(f"{path}: {raw} has no column {name!r}{did_you_mean(name, names)}")
        if used.count(name) > 1:
            raise DataError(f"{path}: column {name!r} is named twice; give it one role")
    options = {key: given[key] for key in _OPTIONS if key in given}
    if "hash_buckets" in options:
        options["hash_buckets"] = tuple(options["hash_buckets"])
    return Recipe(
        name="csv",
        columns=tuple(names),
        label=given["label"],
        numeric_columns=tuple(numeric),
        ignored_columns=tuple(n for n in names if n not in used),
        split_column=given.get("split", ""),
        header="columns" not in given,
        scientific=True,
        **{**_DEFAULTS, **options},
    )


def libsvm_recipe(raw: str | Path) -> Recipe:
    """The recipe of lines `LABEL INDEX:1 INDEX:1 ...`, one index a field, as many as the first line has.

    Labels are 1 and 0 or -1. Fields are f1, f2, ... by position; an index is a value of its field.

    Raises:
      DataError: the file cannot be read, or its first line holds no index.
    """
    cells = first_line(Path(raw)).split()
    if len(cells) < 2 or not all(":" in cell for cell in cells[1:]):
        raise DataError(f"{raw} line 1 is not libsvm's LABEL INDEX:1 INDEX:1 ...; is it csv?")
    columns = ("label", *(f"f{i}" for i in range(1, len(cells))))
    return Recipe("libsvm", columns, "label", (), min_count=1, test_fraction=0.1, delimiter=" ")


def _read(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"column config {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"column config {path} cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}") from error
    for key, value in given.items():
        if key not in _KEYS:
            raise DataError(f"{path}: unknown key {key!r}{did_you_mean(key, _KEYS)}")
        if _KEYS[key] is float and type(value) is int:
            given[key] = value = float(value)
        if type(value) is not _KEYS[key] or (isinstance(value, list) and not _all_text(value)):
            listed = "column names" if key in _ROLES else "FIELD=ROWS"
            kind = f"a list of {listed}" if _KEYS[key] is list else f"a {_KEYS[key].__name__}"
            raise DataError(f"{path}: {key} = {value!r} must be {kind}")
    if given.get("delimiter") == " ":
        raise DataError(f'{path}: delimiter = " " is libsvm\'s; use "," or "\\t", or recipe libsvm')
    if given.get("split") and {"test_fraction", "valid_fraction", "split_seed"} & set(given):
        raise DataError(f"{path}: a split column names the splits; leave fractions and split_seed out")
    if "label" not in given:
        raise DataError(f'{path} names no label; write label = "COLUMN"')
    return given


def _all_text(values: list[Any]) -> bool:
    return all(type(v) is str for v in values)


def _header(raw: Path, delimiter: str) -> list[str]:
    line = first_line(raw)
    if delimiter == "auto":
        delimiter = "\t" if line.count("\t") > line.count(",") else ","
    names = header_names(line, delimiter, quote=True)
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"{raw} line 1: column names repeat: {', '.join(map(repr, repeated))}; rename them")
    return names
