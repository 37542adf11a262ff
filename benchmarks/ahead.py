"""Whether a step gains from batches fetched ahead by a thread, or from several steps a dispatch.

    taskset -c 0,1 .venv/bin/python benchmarks/ahead.py [--table-rows N] [--steps N] [--rounds N]

DeepFwFM of the paper's Criteo shape on shuffled batches of a memory-mapped file, in turn: as the training
loop does it on a CPU (a jitted step is dispatched and not waited for, while the loader draws the next batch);
with batches drawn by a thread, as elsewhere; with these put on the device by the thread, too; and ten steps
in one program (`lax.scan`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from train_step import ROWS, schema_of

from deeplight_jax.config import default_config
from deeplight_jax.data.ahead import drawn_ahead
from deeplight_jax.data.loader import train_batches
from deeplight_jax.data.prepared import Split, create_split
from deeplight_jax.data.schema import Batch, Schema
from deeplight_jax.models import abstract_params, build_model
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import TrainState, init_state
from deeplight_jax.training.step import make_train_step, train_step_of

_SCANNED = 10
Loop = Callable[[TrainState, Iterator[Batch], int], TrainState]


def made_split(folder: Path, schema: Schema, rows: int) -> Split:
    """Random rows with ids of size * u^4, as `train_step.batches_of` draws them."""
    split, rng = create_split(folder, "train", schema, rows), np.random.default_rng(0)
    sizes = np.array([field.size for field in schema.categorical])
    split.ids[:] = (sizes * rng.random((rows, len(sizes))) ** 4).astype(np.int32)
    split.values[:] = rng.standard_normal((rows, len(schema.numeric)))
    split.label[:] = rng.integers(0, 2, rows)
    return split


def loops(model: Any, optimizer: Any, config: Any) -> dict[str, Loop]:
    """Each trains a state for so many steps."""
    step = make_train_step(model, optimizer, config)
    pure = train_step_of(model, optimizer, config)
    scanned = jax.jit(lambda state, stacked: jax.lax.scan(pure, state, stacked), donate_argnums=0)

    def plain(state: TrainState, batches: Iterator[Batch], steps: int) -> TrainState:
        for batch in islice(batches, steps):
            state, _ = step(state, batch)
        return state

    def fetched(state: TrainState, batches: Iterator[Batch], steps: int) -> TrainState:
        with drawn_ahead(batches, ahead=True) as drawn:
            return plain(state, drawn, steps)

    def put(state: TrainState, batches: Iterator[Batch], steps: int) -> TrainState:
        return fetched(state, map(jax.device_put, batches), steps)

    def several(state: TrainState, batches: Iterator[Batch], steps: int) -> TrainState:
        for _ in range(steps // _SCANNED):
            taken = islice(batches, _SCANNED)
            state, _ = scanned(state, jax.tree.map(lambda *x: np.stack(x), *taken))
        return state

    return {
        "a step a dispatch": plain,
        "batches drawn ahead": fetched,
        "drawn and put on the device ahead": put,
        f"{_SCANNED} steps a dispatch": several,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table-rows", type=int, default=ROWS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config, schema = default_config(), schema_of(options.table_rows, 13, 26)
    model, (_, labels) = build_model(config, schema), abstract_params(build_model(config, schema), schema)
    optimizer = build_optimizer(config, labels, make_plan(config, 20_000 * config.data.batch_size))
    with tempfile.TemporaryDirectory() as folder:
        split = made_split(Path(folder), schema, 400_000)
        found: dict[str, list[float]] = {}
        programs = loops(model, optimizer, config)
        for _ in range(options.rounds + 1):
            for name, loop in programs.items():
                state = init_state(model, schema, optimizer, 0)
                batches = train_batches(split, config.data.batch_size, seed=0)
                state = jax.block_until_ready(loop(state, batches, _SCANNED))
                began = time.perf_counter()
                jax.block_until_ready(loop(state, batches, options.steps))
                found.setdefault(name, []).append((time.perf_counter() - began) / options.steps)
    first = median(next(iter(found.values()))[1:])
    print("| program | ms a step | times the first's speed |\n|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | {1e3 * median(times[1:]):.3g} | {first / median(times[1:]):.2f} |")


if __name__ == "__main__":
    main()
