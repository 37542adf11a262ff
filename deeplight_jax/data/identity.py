"""What of a data set a model depends on: its fields and the meaning of its ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplight_jax.data.prepared import Prepared


def identity(data: Prepared) -> dict[str, Any]:
    """Content hash, train rows, schema and vocabulary digests of a data set, for JSON."""
    digests = data.manifest["sha256"]
    return {
        "content_hash": data.content_hash,
        "rows": data.split("train").rows if "train" in data.splits else 0,
        "schema": data.schema.to_json(),
        "vocabulary": {name: digest for name, digest in digests.items() if name.startswith("vocab/")},
    }


def first_difference(ours: Mapping[str, Any], data: Prepared, owner: str) -> str | None:
    """Why rows of `data` do not mean to a model what its training rows meant, or None.

    Args:
      ours: `identity` of the model's training data.
      data: other rows.
      owner: whose training data, as in "the run".
    """
    theirs = identity(data)
    for one, other in zip(ours["schema"], theirs["schema"], strict=False):
        if one != other:
            return (
                f"{data.directory}: field {other['name']} has {other['size']} rows, {owner}'s "
                f"{one['name']} has {one['size']}"
            )
    if len(ours["schema"]) != len(theirs["schema"]):
        return f"{data.directory} has {len(theirs['schema'])} fields, {owner} {len(ours['schema'])}"
    for name in sorted(ours["vocabulary"].keys() | theirs["vocabulary"].keys()):
        if ours["vocabulary"].get(name) != theirs["vocabulary"].get(name):
            return f"{data.directory / name} is not {owner}'s vocabulary"
    return None
