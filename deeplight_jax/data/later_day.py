"""A later day of the same log: rows encoded with the vocabularies that an earlier data set counted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.data.recipes import Recipe
from deeplight_jax.data.schema import Schema
from deeplight_jax.data.vocabulary import Encoder, load_encoder, parse_encoder
from deeplight_jax.errors import DataError


class Day(NamedTuple):
    """Vocabularies (and hashes) to encode a later day with, their recipe and their data set's hash."""

    recipe: Recipe
    encoders: list[Encoder]
    content_hash: str


def load_day(directory: Path, recipe: Recipe) -> Day:
    """Vocabularies of a prepared data set, for rows of the same recipe.

    Raises:
      DataError: the data set is damaged, or was made by another recipe or with other fields.
    """
    prepared = open_prepared(directory, verify=False)
    try:
        made_by = prepared.manifest["recipe"]
        options = {k: made_by[k] for k in ("numeric", "min_count", "vocab_scope")}
        options["hash_buckets"] = tuple(made_by.get("hash_buckets", ()))
        name = made_by["name"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{directory}: its manifest names no recipe; encode with a data set of ours"
        ) from error
    if name == recipe.name:
        recipe = replace(recipe, **options)
    fields = tuple((f.name, f.kind) for f in prepared.schema.fields)
    if name != recipe.name or fields != recipe.fields:
        if name == recipe.name and set(fields) == set(recipe.fields):
            raise DataError(
                f"{directory}: its fields come in another order ({', '.join(n for n, _ in fields)}); "
                "write the raw files' columns in that order"
            )
        odd = sorted({n for n, _ in set(fields) ^ set(recipe.fields)})
        raise DataError(
            f"{directory} was prepared by recipe {name} and does not fit {recipe.name}"
            f"{': fields ' + ', '.join(odd) if odd else ''}; name the data set that this recipe made"
        )
    encoders = []
    for field in prepared.schema.categorical:
        path = directory / "vocab" / f"{field.name}.txt"
        encoders.append(load_encoder(path, field.size))
        if hashlib.sha256(path.read_bytes()).hexdigest() != prepared.manifest["sha256"].get(
            f"vocab/{path.name}"
        ):
            raise DataError(f"{path} is damaged (its SHA-256 differs from the manifest's); prepare it again")
    return Day(recipe, encoders, prepared.content_hash)


def carried_day(
    recipe: Mapping[str, Any] | None, schema: Schema, vocabularies: Mapping[str, bytes], content_hash: str
) -> Day:
    """What an artifact carries along to encode raw rows: its data's recipe, fields and vocabulary files.

    Raises:
      DataError: it carries no recipe or a vocabulary less (its rows did not come from raw files), or they do
        not fit each other.
    """
    if recipe is None or any(f.name not in vocabularies for f in schema.categorical):
        raise DataError(
            "the artifact carries no recipe or no vocabularies, its data was not prepared from raw rows; "
            "score prepared rows by --data"
        )
    found = Recipe.from_json(recipe)
    if found.fields != tuple((f.name, f.kind) for f in schema.fields):
        raise DataError(
            f"the artifact's recipe {found.name} has other fields than its model; export it again"
        )
    parsed = [parse_encoder(vocabularies[f.name], f.size, f"the artifact's vocabulary of {f.name}")
              for f in schema.categorical]  # fmt: skip
    return Day(found, parsed, content_hash)
