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


def difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], whose: str) -> str:
    """The first difference of two data identities in fields or vocabularies; "" if a model fits both.

    Args:
      theirs: `identity` of other rows.
      ours: of the rows that a model or its masks were trained on.
      whose: as in "the run's".
    """
    for other, one in zip(theirs["schema"], ours["schema"], strict=False):
        if one != other:
            if (other["name"], other["kind"]) != (one["name"], one["kind"]):
                return f"its {other['kind']} field {other['name']} is {whose} {one['kind']} {one['name']}"
            return f"field {other['name']} has {other['size']} rows, {whose} {one['name']} has {one['size']}"
    if len(ours["schema"]) != len(theirs["schema"]):
        return f"it has {len(theirs['schema'])} fields, {whose} data {len(ours['schema'])}"
    for name in sorted(ours["vocabulary"].keys() | theirs["vocabulary"].keys()):
        if ours["vocabulary"].get(name) != theirs["vocabulary"].get(name):
            return f"{name} is not {whose} vocabulary"
    return ""
