"""Latency against the share of the deep net that is pruned, and where sparse begins to beat dense.

The analogue of the paper's Figures 4 and 5: nets of the artifact's widths with random heavy-tailed weights,
pruned by magnitude layer by layer, over the artifact's own table and field pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import log
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.data.schema import field_pairs
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.bench import Progress, Rows, Score, Timings, draw_rows, measure
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import Engine, build
from deeplight_jax.serving.rivals import check
from deeplight_jax.serving.rivals.dense import dense_of_artifact, kind_of
from deeplight_jax.serving.rivals.forward import DenseArrays, Kind
from deeplight_jax.serving.structure import with_table

RATES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
RIVAL = "ONNX Runtime, dense"
_BATCH = 512
_TAIL = 3.0  # degrees of freedom of the weights' Student-t
_SCALE = 0.05


class RateLine(NamedTuple):
    """The engine at one rate.

    Attributes:
      rate: share of each hidden layer's weights that is pruned.
      weights: what is left of them behind dead units.
      p50_us: of one row.
      row_us: a row, at 512 rows a call.
    """

    rate: float
    weights: int
    p50_us: float
    row_us: float


class RateSweep(NamedTuple):
    """The engine by rate against the dense rival.

    Attributes:
      lines: by ascending rate.
      rival: its name; None: none could be made.
      rival_p50_us, rival_row_us: its latencies, the same at every rate.
      break_even, break_even_512: the rate from which the engine is faster, at one row and at 512 a call,
        see `break_even`.
    """

    lines: list[RateLine]
    rival: str | None
    rival_p50_us: float | None
    rival_row_us: float | None
    break_even: float | None
    break_even_512: float | None


def sweep_rates(
    engine: Engine,
    rows: Rows,
    rounds: int,
    seconds: float,
    rates: Sequence[float] = RATES,
    progress: Progress | None = None,
) -> RateSweep:
    """Measures the engine with nets of every rate, and ONNX Runtime with the dense one, in turn.

    Args:
      engine: whose table, field pairs and widths are used; its `about["model"]` tells the widths.
      rows, rounds, seconds: as `bench.measure` has them.
      rates: each in [0, 1).
      progress: called while measuring.

    Raises:
      ArtifactError: the model has no deep net, the artifact does not name its model, or the rival computes
        something else.

    Cost: a compact structure and an engine for each rate; they share one table.
    """
    model = engine.about.get("model", {})
    arrays = random_net(engine, model)
    engines = {rate: engine_at(engine, model, arrays, rate) for rate in rates}
    scorers: dict[str, Score] = {f"{rate:g}": e.score for rate, e in engines.items()}
    rival = _onnx(kind_of(model, engine.schema, engine.compact.dim), arrays)
    if rival:
        check(RIVAL, rival, engines.get(0.0) or engine_at(engine, model, arrays, 0.0))
        scorers[RIVAL] = rival
    drawn = draw_rows(engine.schema, rows)
    found = measure(scorers, *drawn, rounds, seconds, batches=(_BATCH,), progress=progress)
    lines = [
        RateLine(rate, sum(e.compact.counts()["weights"]), *_both(found[f"{rate:g}"]))
        for rate, e in engines.items()
    ]
    if not rival:
        return RateSweep(lines, None, None, None, None, None)
    p50, row = _both(found[RIVAL])
    return RateSweep(
        lines,
        RIVAL,
        p50,
        row,
        break_even([(line.rate, line.p50_us) for line in lines], p50),
        break_even([(line.rate, line.row_us) for line in lines], row),
    )


def random_net(engine: Engine, model: Mapping[str, Any]) -> DenseArrays:
    """The engine's dense model with other weights in its net: Student-t, and whole units strong or weak."""
    arrays = dense_of_artifact(with_table(engine.compact, "f32"), model)
    if not arrays.layers:
        raise ArtifactError(f"model {model['name']} has no hidden layer whose rate could be swept")
    rng = np.random.default_rng(0)

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (rng.standard_t(_TAIL, shape) * scale).astype(np.float32)

    layers = tuple(
        (draw(_SCALE, *kernel.shape) * np.abs(draw(1.0, 1, kernel.shape[1])), draw(0.01, len(bias)))
        for kernel, bias in arrays.layers
    )
    return arrays._replace(layers=layers, output=draw(_SCALE, *arrays.output.shape))


def engine_at(engine: Engine, model: Mapping[str, Any], arrays: DenseArrays, rate: float) -> Engine:
    """An engine of the arrays with that share of each hidden kernel pruned, over the engine's own table."""
    deep: dict[str, Any] = {
        f"hidden_{i}": {"kernel": pruned(kernel, rate), "bias": bias}
        for i, (kernel, bias) in enumerate(arrays.layers)
    }
    deep["output"] = {"kernel": arrays.output}
    params: dict[str, Any] = {
        "embedding": {"table": arrays.table},
        "weights": {"table": arrays.weights[:, None]},
        "bias": arrays.bias[0],
        "deep": deep,
    }
    if arrays.cross is not None:
        params["fwfm"] = {"r": arrays.cross[field_pairs(engine.schema.num_fields)]}
    made, own = compact(model, engine.schema, params), engine.compact
    made = replace(made, table=own.table, table_index=own.table_index, table_format=own.table_format)
    return build(Artifact(made, engine.about, {}), engine.path)


def pruned(x: np.ndarray, rate: float) -> np.ndarray:
    """The largest magnitudes of an array; the share `rate` of it is zero."""
    cut = int(rate * x.size)
    if not cut:
        return x
    return np.where(np.abs(x) >= np.partition(np.abs(x).ravel(), cut)[cut], x, 0).astype(np.float32)


def break_even(points: Sequence[tuple[float, float]], limit: float) -> float | None:
    """The rate at which a latency falls to the limit for good, log-linear between its neighbours.

    Args:
      points: (rate, latency) by ascending rate.
      limit: the rival's latency.

    Returns:
      None where it never does; the first rate where it is never above.
    """
    if points[-1][1] > limit:
        return None
    for (before, slow), (after, fast) in reversed(list(pairwise(points))):
        if slow > limit:
            return before + (after - before) * log(slow / limit) / log(slow / fast)
    return points[0][0]


def _both(found: Timings) -> tuple[float, float]:
    return found.p50_us, 1e6 / found.rows_per_s[_BATCH]


def _onnx(kind: Kind, arrays: DenseArrays) -> Score | None:
    try:
        from deeplight_jax.serving.rivals.onnx import onnx_dense

        return onnx_dense(kind, arrays)
    except (ImportError, NotImplementedError):
        return None
