"""Rows a second of the training loader, shuffled, from memory-mapped arrays of Criteo's shape.

    taskset -c 0,1 .venv/bin/python benchmarks/loader.py --rows 4000000

Rivals in the same run: the same batches in file order, and under a stored random permutation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from deeplight_jax.data.loader import eval_batches, train_batches
from deeplight_jax.data.prepared import Split, create_split
from deeplight_jax.data.schema import Batch, Field, Schema

SCHEMA = Schema(
    (
        *(Field(f"I{i}", "numeric", 1) for i in range(13)),
        *(Field(f"C{i}", "categorical", 50_000) for i in range(26)),
    )
)


def make_split(directory: Path, rows: int) -> Split:
    """Random rows, written and mapped as `prepare` leaves them."""
    split, rng = create_split(directory, "train", SCHEMA, rows), np.random.default_rng(0)
    for start in range(0, rows, 100_000):
        stop = min(start + 100_000, rows)
        split.ids[start:stop] = rng.integers(0, 50_000, (stop - start, 26))
        split.values[start:stop] = rng.standard_normal((stop - start, 13))
        split.label[start:stop] = rng.integers(0, 2, stop - start)
    return split


def stored_permutation(split: Split, batch: int) -> Iterator[Batch]:
    order = np.random.default_rng(0).permutation(split.rows)
    for start in range(0, split.rows - batch, batch):
        rows = order[start : start + batch]
        label = split.label.take(rows).astype(np.float32)
        yield Batch(split.ids.take(rows, axis=0), split.values.take(rows, axis=0), label, np.ones(batch))


def rows_per_second(batches: Callable[[], Iterator[Batch]], batch: int, count: int, repeats: int) -> float:
    """Median over `repeats` of `count` batches, after one round that is not counted."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        taken = sum(1 for _ in islice(batches(), count))
        found.append(taken * batch / (time.perf_counter() - start))
    return median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--batches", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = make_split(Path(folder), options.rows)
        rivals: dict[str, Callable[[], Iterator[Batch]]] = {
            "train_batches (keyed permutation)": lambda: train_batches(split, options.batch, seed=0),
            "a stored permutation": lambda: stored_permutation(split, options.batch),
            "file order": lambda: eval_batches(split, options.batch),
        }
        for name, batches in rivals.items():
            rate = rows_per_second(batches, options.batch, options.batches, options.repeats)
            print(f"{name:36s} {rate / 1e6:6.2f} M rows/s", flush=True)


if __name__ == "__main__":
    main()
