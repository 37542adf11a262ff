"""The books of a preparation: every input line is accepted into a split or rejected for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplight_jax.data.cells import REASONS, SHOWN, Reject, Rows
from deeplight_jax.data.hashing import GOLDEN, mix64
from deeplight_jax.data.rawlines import Block, printable
from deeplight_jax.data.recipes import SPLITS, TEST, TRAIN, VALID, Recipe
from deeplight_jax.errors import DataError


class Account:
    """Lines accepted and rejected so far, in input order.

    Args:
      recipe: draws the splits.
      given: split of all rows of each file, by its index in SPLITS; None: by the split column, or drawn.
      shown: splits that there are, filled or not.
      max_bad: refuse more malformed lines than this (None: any number).

    Raises:
      DataError: `max_bad` is negative.
    """

    def __init__(
        self, recipe: Recipe, given: Sequence[int | None], *, shown: Sequence[str], max_bad: int | None
    ):
        if max_bad is not None and max_bad < 0:
            raise DataError(f"max_bad_rows = {max_bad}; use 0 or more")
        self._recipe, self._given, self._shown, self._max_bad = recipe, given, shown, max_bad
        self.lines = [0] * len(given)
        self.delimiters = [""] * len(given)
        self._rejected = np.zeros(len(REASONS), np.int64)
        self._first: list[Reject] = []
        self._rows = np.zeros(len(SPLITS), np.int64)
        self._positives = np.zeros(len(SPLITS), np.int64)

    def take(self, block: Block, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Add a block's lines, the next ones in order.

        Returns:
          u8[row] split of its rows, and i64[split] rows that each split had before.

        Raises:
          DataError: more lines are malformed than may be.
        """
        self.lines[block.input] += rows.lines
        self.delimiters[block.input] = block.delimiter.decode()
        self._rejected += rows.rejected
        self._first += rows.first[: SHOWN - len(self._first)]
        if self._max_bad is not None and self._rejected.sum() > self._max_bad:
            raise DataError(
                f"more than {self._max_bad} malformed lines: {self._describe()}; "
                "mend them or raise --max-bad-rows"
            )
        before, accepted = self._rows.copy(), int(self._rows.sum())
        given = self._given[block.input]
        if given is not None:
            split = np.full(len(rows.label), given, np.uint8)
        elif rows.split is not None:
            split = rows.split
        else:
            split = draw_splits(accepted, len(rows.label), self._recipe)
        self._rows += np.bincount(split, minlength=len(SPLITS))
        self._positives += np.bincount(split[rows.label == 1], minlength=len(SPLITS))
        return split, before

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split that there is."""
        return self._by_split(self._rows)

    def check_some(self) -> None:
        """Refuse input of which no line was accepted.

        Raises:
          DataError: there is no accepted row.
        """
        if self._rows.sum() == 0:
            what = self._describe() if self._first else "they hold no lines but headers"
            raise DataError(
                f"no row of the raw files is accepted: {what}; is {self._recipe.name} their recipe?"
            )

    def check_same(self, other: Account) -> None:
        """Refuse input that did not read the same twice.

        Raises:
          DataError: the two accounts differ.
        """
        if (self.lines, self.to_json()) != (other.lines, other.to_json()):
            raise DataError(
                "the raw files changed while they were read; prepare them again when they are whole"
            )

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of accepted and rejected lines."""
        by_reason = {r: int(n) for r, n in zip(REASONS, self._rejected, strict=True) if n}
        return {
            "accepted": int(self._rows.sum()),
            "rejected": {
                "total": int(self._rejected.sum()),
                "by_reason": by_reason,
                "first": [reject._asdict() for reject in self._first],
            },
            "positives": self._by_split(self._positives),
        }

    def _by_split(self, numbers: np.ndarray) -> dict[str, int]:
        return {name: n for name, n in zip(SPLITS, numbers.tolist(), strict=True) if name in self._shown}

    def _describe(self) -> str:
        counts = ", ".join(f"{r} {n}" for r, n in zip(REASONS, self._rejected.tolist(), strict=True) if n)
        first = "; ".join(
            f"{r.file} line {r.line}: {r.reason}: '{printable(r.text)}'" for r in self._first[:3]
        )
        return f"{int(self._rejected.sum())} rejected ({counts}), the first: {first}"


def draw_splits(first: int, count: int, recipe: Recipe) -> np.ndarray:
    """Splits u8[count] of the rows numbered from `first` among all accepted rows.

    Row i draws two uniform numbers, SplitMix64 of the recipe's seed at positions 2i and 2i + 1: the first
    below `test_fraction` puts it into test, else the second below `valid_fraction` into validation.
    """
    row = np.arange(first, first + count, dtype=np.uint64)
    key = mix64(np.array([recipe.split_seed], np.uint64) + GOLDEN)
    test = _uniform(key, np.uint64(2) * row) < recipe.test_fraction
    valid = _uniform(key, np.uint64(2) * row + np.uint64(1)) < recipe.valid_fraction
    return np.where(test, TEST, np.where(valid, VALID, TRAIN)).astype(np.uint8)


def _uniform(key: np.ndarray, at: np.ndarray) -> np.ndarray:
    return (mix64(key + at * GOLDEN) >> np.uint64(11)).astype(np.float64) * 2.0**-53
