"""What ranking could gain by computing the context's share once for all candidates of a user.

    taskset -c 0 .venv/bin/python benchmarks/rank.py --artifact DIR/model.safetensors    # DIR of engine.py

`engine.rank` scores whole rows. Its rival here does less than any reuse could: the same model without the
context's fields, so that their table rows, first-layer weights and pairs cost nothing at all, while what a
real reuse would still have to add (a bias a unit, the pairs of context and candidate) is left out, too. In
turn within each round; the ratio of medians bounds what reuse can bring.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.serving import load
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.bench import draw_rows
from deeplight_jax.serving.engine import Engine, build
from deeplight_jax.serving.structure import Compact, Csr, from_entries, with_table

EVERY = 3  # each third categorical field differs between candidates


def without_context(compact: Compact, kept: np.ndarray) -> Compact:
    """The structure of these categorical fields alone, table as floats; deeper layers are as they were."""
    compact = with_table(compact, "f32")
    schema, k, numeric = compact.schema, compact.dim, len(compact.schema.numeric)
    fields = [schema.categorical[i] for i in kept]
    rows = np.concatenate([schema.offsets[i] + np.arange(schema.categorical[i].size) for i in kept])
    inputs = (numeric + kept[:, None] * k + np.arange(k)).ravel()
    first, *rest = compact.layers
    return replace(
        compact,
        schema=Schema(tuple(fields)),
        table=np.ascontiguousarray(compact.table[rows]),
        quadratic=columns_of(rows_of(compact.quadratic, inputs), inputs),
        layers=(first._replace(weights=columns_of(first.weights, inputs)), *rest),
    )


def columns_of(matrix: Csr, kept: np.ndarray) -> Csr:
    place = np.full(matrix.columns, -1)
    place[kept] = np.arange(len(kept))
    rows = np.repeat(np.arange(matrix.rows), np.diff(matrix.indptr))
    live = place[matrix.indices] >= 0
    entries = rows[live], place[matrix.indices[live]], matrix.values[live]
    return from_entries(*entries, (matrix.rows, len(kept)))


def rows_of(matrix: Csr, kept: np.ndarray) -> Csr:
    place = np.full(matrix.rows, -1)
    place[kept] = np.arange(len(kept))
    rows = place[np.repeat(np.arange(matrix.rows), np.diff(matrix.indptr))]
    live = rows >= 0
    return from_entries(rows[live], matrix.indices[live], matrix.values[live], (len(kept), matrix.columns))


def row_us(call: Callable[[], np.ndarray], candidates: int, seconds: float) -> float:
    call()
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return 1e6 * spent / (calls * candidates)


def measure(engine: Engine, candidates: int, rounds: int, seconds: float) -> dict[str, float]:
    """Median microseconds a candidate."""
    schema = engine.schema
    kept = np.arange(0, len(schema.categorical), EVERY)
    own = build(Artifact(without_context(engine.compact, kept), {}, {}), engine.path)
    ids, values = draw_rows(schema, "cold", candidates)
    names = [f.name for f in schema.categorical]
    varied = {names[i]: ids[:, i].copy() for i in kept}
    shared = {name: int(ids[0, i]) for i, name in enumerate(names) if i not in kept}
    context = shared | {f.name: float(values[0, i]) for i, f in enumerate(schema.numeric)}
    whole = ids.copy()
    rest = [i for i in range(len(names)) if i not in kept]
    whole[:, rest], values = ids[0, rest], np.repeat(values[:1], candidates, axis=0)
    few, none = np.ascontiguousarray(ids[:, kept]), np.zeros((candidates, 0), np.float32)
    calls = {
        "engine.rank": lambda: engine.rank(context, varied),
        "engine.score, rows at hand": lambda: engine.score(whole, values),
        "candidates' fields alone (bound)": lambda: own.score(few, none),
    }
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(row_us(call, candidates, seconds))
    return {name: median(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 500, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    engine = load(options.artifact)
    for candidates in options.candidates:
        times = measure(engine, candidates, options.rounds, options.seconds)
        bound = times["candidates' fields alone (bound)"]
        for name, us in times.items():
            print(f"{candidates:6,} candidates  {name:34} {us:7.3f} us each  {us / bound:5.2f}x the bound")


if __name__ == "__main__":
    main()
