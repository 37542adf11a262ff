"""Deterministic, seekable batches over memory-mapped arrays.

An epoch's order is a keyed permutation computed index by index, so any step is reached in O(1): no
shuffled index is built, kept or restored, and a step's number is the loader's whole position.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Batch

_ROUNDS = 4
_BLOCK_BATCHES = 64  # indices permuted together, so that NumPy's overhead is paid once


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches of an epoch, the last partial one counted."""
    return -(-rows // batch_size)


def permuted(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """Row at each position of an epoch's shuffled order.

    A balanced Feistel network over the next power of four, walked until it lands inside: a bijection of
    [0, rows) for every (seed, epoch).

    Args:
      positions: i64[n], each in [0, rows).
      rows: rows in the split.
      seed: non-negative.
      epoch: non-negative.

    Returns:
      i64[n].

    Cost:
      About 15 ns a position; at most four walks expected.
    """
    half = max(1, (int(rows - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(_ROUNDS, np.uint32)
    out = _feistel(positions.astype(np.uint64), half, keys)
    while (outside := np.flatnonzero(out >= rows)).size:
        out[outside] = _feistel(out[outside], half, keys)
    return out.astype(np.int64)


WHOLE = slice(None)


def train_batches(
    split: Split, batch_size: int, seed: int, first_step: int = 0, part: slice = WHOLE
) -> Iterator[Batch]:
    """Endless shuffled batches from `first_step` (0-based, over all epochs) on.

    Every epoch shows every row once; its last batch is filled with rows of weight 0. `part` is what is read
    of each batch: a host's share of it.
    """
    per_epoch = steps_per_epoch(split.rows, batch_size)
    epoch, step = divmod(first_step, per_epoch)
    while True:
        for start in range(step, per_epoch, _BLOCK_BATCHES):
            stop = min((start + _BLOCK_BATCHES) * batch_size, split.rows)
            order = permuted(np.arange(start * batch_size, stop), split.rows, seed, epoch)
            for i in range(0, len(order), batch_size):
                yield _take(split, order[i : i + batch_size], batch_size, part)
        epoch, step = epoch + 1, 0


def eval_batches(split: Split, batch_size: int, part: slice = WHOLE) -> Iterator[Batch]:
    """Every row once, in order; the last batch is filled with rows of weight 0. `part` is read of each."""
    for start in range(0, split.rows, batch_size):
        yield _take(split, np.arange(start, min(start + batch_size, split.rows)), batch_size, part)


def _take(split: Split, rows: np.ndarray, batch_size: int, part: slice) -> Batch:
    weight = np.zeros(batch_size, np.float32)
    weight[: len(rows)] = 1.0
    filled = np.resize(rows, batch_size)[part]  # repeats rows of the batch itself, at weight 0
    return Batch(
        ids=split.ids.take(filled, axis=0),
        values=split.values.take(filled, axis=0),
        label=split.label.take(filled).astype(np.float32),
        weight=weight[part],
    )


def _feistel(x: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
    """A bijection of [0, 4^half): rounds of (left, right) -> (right, left ^ mix(right, key))."""
    mask = np.uint64((1 << half) - 1)
    left, right = x >> np.uint64(half), x & mask
    for key in keys.astype(np.uint64):
        mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)  # wraps, as meant
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ (mixed >> np.uint64(32)) & mask
    return left << np.uint64(half) | right
