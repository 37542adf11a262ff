"""A mask tree at a glance, for terminals and notebooks: by path its shape, how much is kept, the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.markup import escape
from rich.table import Table

from deeplight_jax.sparsity.algebra import check_alike, is_unmasked, leaves_by_path
from deeplight_jax.sparsity.components import Masks


@dataclass(frozen=True)
class LeafSummary:
    """One mask: its path ("deep/hidden_0/kernel"), shape, weights kept, and the rate pruned."""

    path: str
    shape: tuple[int, ...]
    kept: int

    @property
    def rate(self) -> float:
        size = math.prod(self.shape)
        return 1 - self.kept / size if size else 0.0


@dataclass(frozen=True)
class MaskSummary:
    """Every mask of a tree; rich prints it as a table."""

    leaves: tuple[LeafSummary, ...]

    def __rich__(self) -> Table:
        table = Table("", "shape", "kept", "rate")
        for leaf in self.leaves:
            shape = " x ".join(f"{n:,}" for n in leaf.shape)
            table.add_row(escape(leaf.path), shape, f"{leaf.kept:,}", f"{leaf.rate:.1%}")
        return table


def summarize(masks: Masks) -> MaskSummary:
    """What each mask of a tree keeps; copies to the host.

    Raises:
      MaskError: a leaf is not a bool mask; its path is named.
    """
    check_alike(masks)
    return MaskSummary(tuple(
        LeafSummary(path, tuple(keep.shape), int(np.count_nonzero(np.asarray(keep))))
        for path, keep in leaves_by_path(masks).items()
        if not is_unmasked(keep)
    ))  # fmt: skip
