"""Training rows a second, parameters and multiply-adds a row of every model, at one shape, in one run.

    taskset -c 0,1 .venv/bin/python benchmarks/models.py --table-rows 50000 --batch 2048

Steps are timed in turn, a block of each model after the other, so that a drifting machine drifts for all.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import jax
import numpy as np

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.evaluation.counting import count_params, multiply_adds
from deeplight_jax.models import MODELS, abstract_params, build_model, row_tables
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import init_state
from deeplight_jax.training.step import make_train_step


def schema_of(table_rows: int) -> Schema:
    """13 numeric and 26 categorical fields of equal size."""
    numeric = tuple(Field(f"I{i}", "numeric", 1) for i in range(13))
    return Schema((*numeric, *(Field(f"C{i}", "categorical", table_rows // 26) for i in range(26))))


def random_batch(schema: Schema, rows: int) -> Batch:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, schema.categorical[0].size, (rows, 26), dtype=np.int32)
    values = rng.standard_normal((rows, 13)).astype(np.float32)
    label = rng.integers(0, 2, rows).astype(np.float32)
    return Batch(ids, values, label, np.ones(rows, np.float32))


class Timed:
    """One model's step with its own state."""

    def __init__(self, config: Any, schema: Schema, batch: Batch):
        model = build_model(config, schema)
        _, labels = abstract_params(model, schema)
        optimizer = build_optimizer(
            config, labels, make_plan(config, len(batch.label)), row_tables(model, schema)
        )
        self._step, self._batch = make_train_step(model, optimizer, config), batch
        self._state = init_state(model, schema, optimizer, 0)

    def seconds(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            self._state, _ = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table-rows", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    options = parser.parse_args()
    schema, seconds = schema_of(options.table_rows), {name: [] for name in options.models}
    batch = random_batch(schema, options.batch)
    configs = {n: override(default_config(), {"model.name": n}) for n in options.models}
    timed = {name: Timed(config, schema, batch) for name, config in configs.items()}
    for one in timed.values():
        one.seconds(1)  # compiles
    for _ in range(options.rounds):
        for name, one in timed.items():
            seconds[name].append(one.seconds(options.steps))
    print("| model | parameters | multiply-adds a row | ms a step | rows/s |\n|---|---|---|---|---|")
    for name, config in configs.items():
        step = median(seconds[name])
        adds = sum(multiply_adds(config, schema).values())
        params = count_params(config, schema)
        print(
            f"| {name} | {params:,} | {adds:,} | {1e3 * step:.1f} | {options.batch / step:,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
