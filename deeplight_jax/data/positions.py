"""The order of libsvm's indices: the position of an index is its field, so it must not stand at another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplight_jax.data.recipes import Recipe
from deeplight_jax.data.vocabulary import Encoder, Keys, Vocabulary
from deeplight_jax.errors import DataError


def check_vocabularies(recipe: Recipe, encoders: Sequence[Encoder]) -> None:
    """Refuse vocabularies that share an index.

    Args:
      recipe: nothing is checked unless it is libsvm's.
      encoders: of its fields, in order; those without a vocabulary are passed over.

    Raises:
      DataError: two fields have it.
    """
    if recipe.delimiter != " ":
        return
    seen: dict[bytes, int] = {}
    for (_, at, _), vocabulary in zip(recipe.encoded_fields, encoders, strict=True):
        if not isinstance(vocabulary, Vocabulary):
            continue  # hashed: it holds no values to compare
        for value in vocabulary.values:
            if value in seen:
                raise _wrong_order(value, seen[value], at)
        seen |= dict.fromkeys(vocabulary.values, at)


def check_rows(
    recipe: Recipe, keys: Sequence[Sequence[Keys]], ids: np.ndarray, encoders: Sequence[Encoder]
) -> None:
    """Refuse rows in which an index that is unknown at its position is known at another.

    Args:
      recipe: nothing is checked unless it is libsvm's.
      keys: of each field of the rows.
      ids: i32[row, categorical], theirs.
      encoders: of the fields, in order.

    Raises:
      DataError: there is one; as an unknown value it would pass in silence.

    Cost: a look-up in every other field's vocabulary of what is unknown.
    """
    if recipe.delimiter != " ":
        return
    positions = [at for _, at, _ in recipe.encoded_fields]
    for column, (at, groups) in enumerate(zip(positions, keys, strict=True)):
        for width, rows, found in groups:
            unknown = found[ids[rows, column] == 0]
            for other, encoder in zip(positions, encoders, strict=True):
                if not len(unknown) or other == at or not isinstance(encoder, Vocabulary):
                    continue
                if known := int(encoder.ids(width, unknown).max()):
                    raise _wrong_order(encoder.values[known - 1], other, at)


def _wrong_order(value: bytes, here: int, there: int) -> DataError:
    """The error; positions are counted from 0."""
    return DataError(
        f"index {value.decode()} stands at positions {here + 1} and {there + 1} of the lines; "
        "libsvm rows must hold one index a field, always in the same order"
    )
