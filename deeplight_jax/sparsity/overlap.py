"""How two masks differ, counted; knows NumPy alone, so that comparing runs need not start JAX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Overlap(NamedTuple):
    """Weights that two masks A and B keep, counted.

    Attributes:
      both: kept in A and in B.
      only_a: kept in A only.
      only_b: kept in B only.
      neither: pruned in both.
      by_chance: how many both would keep, expected, if A and B were random masks of their rates.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    by_chance: float

    @property
    def size(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def jaccard(self) -> float:
        """Kept in both / kept in either; 1 where nothing is kept."""
        either = self.both + self.only_a + self.only_b
        return self.both / either if either else 1.0

    @property
    def chance(self) -> float:
        """Jaccard of independent random masks of the same rates: pq / (p + q - pq) with kept shares p, q."""
        either = 2 * self.both + self.only_a + self.only_b - self.by_chance
        return self.by_chance / either if either else 1.0


def total(overlaps: Iterable[Overlap]) -> Overlap:
    """Overlaps of several leaves as one; chance stays leaf by leaf, each at its own rates."""
    columns = zip(Overlap(0, 0, 0, 0, 0.0), *overlaps, strict=True)
    return Overlap(*(sum(column) for column in columns))


def overlap_of(a: np.ndarray, b: np.ndarray) -> Overlap:
    """Counts of two bool arrays of one shape."""
    kept_a, kept_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
    both = int(np.count_nonzero(a & b))
    by_chance = kept_a * kept_b / a.size if a.size else 0.0
    return Overlap(both, kept_a - both, kept_b - both, a.size - kept_a - kept_b + both, by_chance)
