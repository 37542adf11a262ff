"""One training step of DeepFwFM in rows a second: ours and other programs in turn, in one run.

    taskset -c 0,1 .venv/bin/python benchmarks/train_step.py             # the paper's Criteo shape
    taskset -c 0,1 .venv/bin/python benchmarks/train_step.py --growth    # ours over the sizes, and predicted
    XLA_PYTHON_CLIENT_PREALLOCATE=false .venv/bin/python benchmarks/train_step.py --block 100     # on a GPU

A block of steps of each program after the other, so that a drifting machine drifts for all; medians of the
blocks. Within a block steps are dispatched as in training, and not waited for one by one. A block is as long
as the interval between pruning events, or a multiple of it, so "pruned" has its events in each. The rivals
need torch and deepctr-torch, which are no dependencies of this project; what is missing is named. FuxiCTR is
not here: its package on PyPI holds base classes and layers, no model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from cost_model import Machine, Shape, cost, measure_machine
from growth_figure import AXES, Measured, draw
from train_rivals import RIVALS, Program, make_rival

from deeplight_jax.config import Config, default_config, override
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.mesh import place as make_placement
from deeplight_jax.models import abstract_params, build_model, row_tables
from deeplight_jax.training.job import numbered_step
from deeplight_jax.training.memory import keep_freed_memory
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import TrainState, init_state
from deeplight_jax.training.step import NumberedStep

ROWS = 1_326_055  # of the paper's Criteo table
PRUNED = {
    "sparsity.dnn": 0.9,
    "sparsity.field": 0.9,
    "sparsity.embedding": 0.4,
    "sparsity.warmup_epochs": 0.0,
}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, pruned: D90-R90-F40": PRUNED,
    "ours, lazy_adam": {"optim.embedding": "lazy_adam"},
    "ours, rowwise_adagrad": {"optim.embedding": "rowwise_adagrad"},
    "ours, threefry dropout": {"model.dropout_bits": "threefry"},
}

_LARGEST_DENSE = 10**7  # table rows: 1.6 GB of weights, moments and gradient a program


def schema_of(rows: int, numeric: int, categorical: int) -> Schema:
    """Categorical fields from 3 values upwards in geometric steps, `rows` table rows in all."""
    sizes = np.geomspace(3, rows, categorical)
    sizes = np.maximum(2, sizes * (rows - numeric) / sizes.sum()).astype(int)
    sizes[-1] += rows - numeric - sizes.sum()
    fields = [Field(f"I{i}", "numeric", 1) for i in range(numeric)]
    return Schema((*fields, *(Field(f"C{i}", "categorical", int(s)) for i, s in enumerate(sizes))))


def batches_of(schema: Schema, rows: int, count: int = 8) -> list[Batch]:
    """Random rows whose ids are size * u^4: the first tenth of a field's values holds 56 % of the rows."""
    rng, sizes = np.random.default_rng(0), np.array([f.size for f in schema.categorical])
    found = []
    for _ in range(count):
        ids = (sizes * rng.random((rows, len(sizes))) ** 4).astype(np.int32)
        values = rng.standard_normal((rows, len(schema.numeric))).astype(np.float32)
        label = rng.integers(0, 2, rows).astype(np.float32)
        found.append(Batch(ids, values, label, np.ones(rows, np.float32)))
    return found


def our_training(config: Config, schema: Schema, batch: int) -> tuple[Callable[[], TrainState], NumberedStep]:
    """How the package makes a state, and its own step."""
    model = build_model(config, schema)
    _, labels = abstract_params(model, schema)
    plan = make_plan(config, 20_000 * batch)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, schema))
    place = make_placement(1, 1, schema.num_rows, batch)
    train_step = numbered_step(place, model, schema, optimizer, config, plan)
    return partial(init_state, model, schema, optimizer, 0), train_step


def our_program(config: Config, schema: Schema, batch: int) -> Program:
    """The package's own step, with its own state."""
    init, train_step = our_training(config, schema, batch)
    state, number = init(), count(1)

    def step(batch: Batch) -> None:
        nonlocal state
        state, _ = train_step(state, batch, next(number))

    return Program(step, lambda: jax.block_until_ready(state))


def seconds(program: Program, batches: Sequence[Batch], steps: int) -> float:
    """Seconds a step over a block of steps."""
    start = time.perf_counter()
    for i in range(steps):
        program.step(batches[i % len(batches)])
    program.wait()
    return (time.perf_counter() - start) / steps


def measure(
    programs: dict[str, Program], batches: Sequence[Batch], block: int, rounds: int
) -> dict[str, float]:
    """Median seconds a step of each, blocks in turn, after one block that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            found[name].append(seconds(program, batches, block))
    return {name: median(times[1:]) for name, times in found.items()}


def rivals(names: Sequence[str], config: Config, schema: Schema) -> dict[str, Program]:
    """Those whose library is installed; the others are named."""
    found = {}
    for name in names:
        try:
            found[name] = make_rival(name, config, schema, _threads())
        except ImportError as error:
            print(f"- not run: {name} ({error})")
    return found


def compare(options: argparse.Namespace) -> None:
    schema = schema_of(options.table_rows, 13, 26)
    config, batches = config_of(options, {}), batches_of(schema, options.batch)
    names = [n for n in (*OURS, *RIVALS) if _chosen(n, options)]
    ours = [n for n in names if n in OURS]
    programs = {n: our_program(config_of(options, OURS[n]), schema, options.batch) for n in ours}
    programs |= rivals([n for n in names if n in RIVALS], config, schema)
    found = measure(programs, batches, options.block, options.rounds)
    first = next(iter(found.values()))
    print(f"\n{schema.num_rows:,} table rows, batch {options.batch}, {_machine()}\n")
    print("| program | ms a step | rows/s | times the first's speed |\n|---|---|---|---|")
    for name, step in found.items():
        print(f"| {name} | {1e3 * step:.4g} | {options.batch / step:,.0f} | {first / step:.2f} |")


def growth(options: argparse.Namespace) -> None:
    """Ours, one size at a time away from the paper's shape, beside what the cost model predicts."""
    first = Shape(options.table_rows, options.batch, 10, 13, 26)
    machine = measure_machine(first)
    print(f"{machine.bytes_s / 1e9:.1f} GB/s, {machine.operations_s / 1e9:.0f} GFLOP/s, "
          f"{1e9 * machine.row_s:.3g} ns a row added; {_machine()}\n")  # fmt: skip
    names = [n for n in OURS if "threefry" not in n and _chosen(n, options)]
    heads = [f"{n}, ms | predicted" for n in names]
    print(f"| table rows | batch | k | fields | {' | '.join(heads)} |")
    print("|---" * (4 + 2 * len(names)) + "|")
    found: list[Measured] = []
    for axis, shape in _shapes(first, options.largest, options.axes):
        found.append(_grown(axis, shape, names, machine, options))
        seconds, predicted = found[-1].seconds, found[-1].predicted
        cells = " | ".join(
            f"{1e3 * seconds[n]:.3g} | {1e3 * predicted[n]:.2g}" if n in seconds else "- | -" for n in names
        )
        print(f"| {shape.rows:,} | {shape.batch:,} | {shape.dim} | {shape.fields} | {cells} |", flush=True)
    if options.figure and len(found) > 1:
        draw(found, options.figure)
    elif options.figure:
        print("\n- no figure: one size alone was measured")


def _shapes(first: Shape, largest: float, axes: Sequence[str]) -> list[tuple[str, Shape]]:
    """The paper's shape, then others with the name of the size in which they differ."""
    shapes = [("", first)]
    shapes += [("rows", first._replace(rows=n)) for n in (10**5, 10**6, 10**7, 10**8) if n <= largest]
    shapes += [("batch", first._replace(batch=n)) for n in (512, 8192)]
    shapes += [("dim", first._replace(dim=n)) for n in (5, 20)]
    shapes += [("fields", first._replace(categorical=13))]
    return [(axis, shape) for axis, shape in shapes if not axis or axis in axes]


def _grown(
    axis: str, shape: Shape, names: Sequence[str], machine: Machine, options: argparse.Namespace
) -> Measured:
    schema = schema_of(shape.rows, shape.numeric, shape.categorical)
    changes = {"model.embedding_dim": shape.dim, "data.batch_size": shape.batch}
    here = [n for n in names if _row_sparse(n) or shape.rows <= _LARGEST_DENSE]
    configs = {name: config_of(options, {**OURS[name], **changes}) for name in here}
    programs = {name: our_program(config, schema, shape.batch) for name, config in configs.items()}
    seconds = measure(programs, batches_of(schema, shape.batch), options.block, options.rounds)
    predicted = {
        n: cost(shape, machine, row_sparse=_row_sparse(n), pruned="sparsity.embedding" in OURS[n]).total_s
        for n in here
    }
    return Measured(axis, shape, seconds, predicted)


def _row_sparse(name: str) -> bool:
    return OURS[name].get("optim.embedding", "adam") != "adam"


def _chosen(name: str, options: argparse.Namespace) -> bool:
    return not options.only or any(part in name for part in options.only)


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def _machine() -> str:
    kind = jax.devices()[0].device_kind
    return f"{_threads()} threads" if jax.default_backend() == "cpu" else kind


def config_of(options: argparse.Namespace, changes: dict[str, Any]) -> Config:
    return override(default_config(), {"data.batch_size": options.batch, **changes})


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Options of every script that measures these steps: the table's and the batch's rows."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table-rows", type=int, default=ROWS)
    parser.add_argument("--batch", type=int, default=2048)
    return parser


def main() -> None:
    keep_freed_memory()  # as `train` does, before JAX computes
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=10, help="steps in a block")
    parser.add_argument("--only", nargs="+", help="programs whose names hold one of these words")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--largest", type=float, default=1e7, help="growth: table rows of the largest table")
    parser.add_argument(
        "--axes", nargs="+", choices=AXES, default=tuple(AXES), help="growth: sizes that vary"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="growth: draw it")
    options = parser.parse_args()
    (growth if options.growth else compare)(options)


if __name__ == "__main__":
    main()
