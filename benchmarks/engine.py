"""The sparse engine against what one would deploy instead: latency of one row, rows a second of batches.

    pip install onnx onnxruntime    # rivals that are not installed are left out
    taskset -c 0 .venv/bin/python benchmarks/engine.py [--run RUN] [--table-rows 1326055] [--rows cold|warm]

One core, every rival in turn within a round, the median over rounds; ratios are of those medians. Without
--run the model is the paper's D99-R95-F40 of Criteo's shape with heavy-tailed random weights, pruned by
magnitude. Cold rows are uniform over the table, warm ones follow Zipf's law.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import engine_rivals
import numpy as np

from deeplight_jax.config import default_config
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import Engine, build

BATCHES = (16, 128, 512, 4096)
Score = Callable[[np.ndarray, np.ndarray], Any]


def criteo_schema(table_rows: int) -> Schema:
    """13 numeric fields and 26 categorical ones whose sizes grow geometrically to a total."""
    sizes = np.geomspace(4, 1, 26)
    growth = np.exp(np.linspace(0, np.log(table_rows / 40), 26))
    sizes = np.maximum(3, growth * (table_rows - 13) / growth.sum()).astype(int)
    numeric = tuple(Field(f"I{i + 1}", "numeric", 1) for i in range(13))
    return Schema(numeric + tuple(Field(f"C{i + 1}", "categorical", int(s)) for i, s in enumerate(sizes)))


def pruned(x: np.ndarray, rate: float) -> np.ndarray:
    """The largest magnitudes of an array."""
    cut = np.partition(np.abs(x).ravel(), int(rate * x.size))[int(rate * x.size)] if rate else 0.0
    return np.where(np.abs(x) >= cut, x, 0).astype(np.float32)


def random_model(schema: Schema, rates: tuple[float, float, float], tail: float) -> dict[str, Any]:
    """DeepFwFM's parameters, Student-t with `tail` degrees of freedom, pruned by (D, R, F)."""
    rng = np.random.default_rng(0)
    n, k, hidden = schema.num_fields, 10, (400, 400, 400)

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (rng.standard_t(tail, shape) * scale).astype(np.float32)

    deep: dict[str, Any] = {"output": {"kernel": draw(0.05, hidden[-1], 1)}}
    for i, (a, b) in enumerate(zip((n * k, *hidden), hidden, strict=False)):
        kernel = draw(0.05, a, b) * np.abs(draw(1.0, 1, b))  # whole units are strong or weak, too
        deep[f"hidden_{i}"] = {"kernel": pruned(kernel, rates[0]), "bias": draw(0.01, b)}
    fwfm = {"bias": np.float32(-1), "field_weight": np.ones(n, np.float32), "v": draw(0.1, n, k)}
    fwfm["r"] = pruned(draw(0.1, n * (n - 1) // 2), rates[1])
    return {
        "embedding": {"table": pruned(draw(0.1, schema.num_rows, k), rates[2])},
        "fwfm": fwfm,
        "deep": deep,
    }


def draw_rows(schema: Schema, rows: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = np.array([f.size for f in schema.categorical])
    ids = rng.integers(0, sizes, (rows, len(sizes)))
    if kind == "warm":
        ids = np.minimum(rng.zipf(1.3, ids.shape) - 1, sizes - 1)
    return ids.astype(np.int32), rng.exponential(1, (rows, len(schema.numeric))).astype(np.float32)


def latencies_us(score: Score, rows: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Microseconds of each call, one row a call."""
    out = np.empty(len(rows))
    for i, (ids, values) in enumerate(rows):
        start = time.perf_counter_ns()
        score(ids, values)
        out[i] = time.perf_counter_ns() - start
    return out / 1000


def rows_per_second(score: Score, ids: np.ndarray, values: np.ndarray, batch: int, seconds: float) -> float:
    done, at, start = 0, 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        score(ids[at : at + batch], values[at : at + batch])
        done, at = done + batch, (at + batch) % (len(ids) - batch + 1) // batch * batch
    return done / spent


def measure(
    rivals: dict[str, Score], ids: np.ndarray, values: np.ndarray, rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    """p50 and p99 of a row and rows/s by batch of every rival, each the median over rounds."""
    single = [(ids[i : i + 1].copy(), values[i : i + 1].copy()) for i in range(min(4000, len(ids)))]
    found: dict[str, dict[str, list[float]]] = {name: {} for name in rivals}
    for _ in range(rounds):
        for name, score in rivals.items():
            score(*single[0])
            start = time.perf_counter()
            score(*single[1])
            calls = int(min(len(single), max(50, seconds / (time.perf_counter() - start))))
            times = latencies_us(score, single[:calls])
            found[name].setdefault("p50", []).append(float(np.percentile(times, 50)))
            found[name].setdefault("p99", []).append(float(np.percentile(times, 99)))
        for batch in BATCHES:
            for name, score in rivals.items():
                score(ids[:batch], values[:batch])
                rate = rows_per_second(score, ids, values, batch, seconds)
                found[name].setdefault(str(batch), []).append(rate)
    return {name: {key: median(v) for key, v in results.items()} for name, results in found.items()}


def report(found: dict[str, dict[str, float]], ours: str) -> None:
    heads = [f"rows/s at {batch}" for batch in BATCHES]
    print(f"| | p50 us | p99 us | {' | '.join(heads)} | ratio: 1 row, 512, 4096 |\n|---{'|---' * 7}|")
    for name, r in found.items():
        ratio = [r["p50"] / found[ours]["p50"], *(found[ours][b] / r[b] for b in ("512", "4096"))]
        rates = " | ".join(f"{r[str(batch)]:,.0f}" for batch in BATCHES)
        ratios = " / ".join(f"{x:.1f}" for x in ratio)
        print(f"| {name} | {r['p50']:.2f} | {r['p99']:.2f} | {rates} | {ratios} |")


def engine_of(options: argparse.Namespace) -> tuple[Engine, dict[str, Any]]:
    """The engine and the projected parameters that it was made from."""
    if options.run:
        from deeplight_jax.training.inspect import load_run

        run = load_run(options.run)
        model, schema, params = run.config.model, run.schema, run.params
    else:
        model, schema = default_config().model, criteo_schema(options.table_rows)
        params = random_model(schema, (0.99, 0.95, 0.40), options.tail)
    return build(Artifact(compact(model, schema, params), {}, {}), options.level), params


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help="a run's projected DeepFwFM instead of random weights")
    parser.add_argument("--table-rows", type=int, default=1_326_055)
    parser.add_argument("--tail", type=float, default=3.0, help="degrees of freedom; 100: all but normal")
    parser.add_argument("--rows", choices=("cold", "warm"), default="cold")
    parser.add_argument("--level", help="numpy, avx512, avx2 or portable")
    parser.add_argument(
        "--against", nargs="*", default=list(engine_rivals.RIVALS), help="rivals; none: alone"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="a rival, batch size and round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine, params = engine_of(options)
    ids, values = draw_rows(engine.schema, 1 << 16, options.rows)
    print(f"{platform.processor() or platform.machine()}, {options.rows} rows, {engine.compact.counts()}")
    ours = f"deeplight ({engine.path})"
    rivals: dict[str, Score] = {ours: engine.score}
    for name in options.against:
        rival = engine_rivals.RIVALS[name](engine.compact, params)
        if rival is None:
            print(f"{name}: not installed")
            continue
        error = np.abs(
            np.asarray(rival(ids[:512], values[:512])).ravel() - engine.logits(ids[:512], values[:512])
        )
        assert error.max() < 1e-3, f"{name} computes something else: {error.max()}"
        rivals[name] = rival
    found = measure(rivals, ids, values, options.rounds, options.seconds)
    report(found, ours)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
