"""How fast scoring is and how much memory it takes: pure measurement, of the engine and of any rival.

Every scorer takes its turn within each round, so that a drifting machine drifts for all; figures are
medians over the rounds. From call to call a model's weights stay in the processor's caches, and only its
table rows may not (`rows="cold"`); for `flushed_us` everything is thrown out of them between calls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.engine import Engine, build, load
from deeplight_jax.serving.structure import to_arrays

BATCHES = (16, 128, 512, 4096)
Rows: TypeAlias = Literal["cold", "warm"]
Score: TypeAlias = Callable[[np.ndarray, np.ndarray], Any]
Progress: TypeAlias = Callable[[str, int, int], None]
_DRAWN_ROWS = 1 << 16
_SINGLE_ROWS = 1 << 14  # scored one by one in a round, at most
_LEAST_CALLS = 50
_FLUSHED_CALLS = 31
_ZIPF = 1.3  # exponent of warm ids


class Timings(NamedTuple):
    """Medians over the rounds.

    Attributes:
      p50_us, p99_us, p999_us: microseconds of a call with one row, percentiles within a round.
      rows_per_s: by rows a call.
      flushed_us: p50 of a call with one row where the caches are flushed before it; None: not measured.
    """

    p50_us: float
    p99_us: float
    p999_us: float
    rows_per_s: dict[int, float]
    flushed_us: float | None


class InsideC(NamedTuple):
    """Microseconds of a call with one row inside the native engine, Python's part left out; percentiles."""

    p50_us: float
    p99_us: float


class EngineFigures(NamedTuple):
    """An engine's speed and size.

    Attributes:
      p50_us, p99_us: microseconds of a call with one row.
      rows_per_s: by rows a call.
      model_bytes: arrays of the model as held, the table apart.
      table_bytes: the embedding table in its format; of floats, padded to whole cache lines a row.
      load_ms: from arrays in memory to an engine that scores; `load_measured` times a file.
    """

    p50_us: float
    p99_us: float
    rows_per_s: dict[int, float]
    model_bytes: int
    table_bytes: int
    load_ms: float


class Loading(NamedTuple):
    """What loading an artifact took.

    Attributes:
      load_ms: reading, checking every digest and building the engine.
      file_bytes: of the artifact, vocabularies and description included.
      model_bytes, table_bytes: as in `EngineFigures`.
      rss_growth_bytes: growth of this process's resident memory; None where the system does not tell.
    """

    load_ms: float
    file_bytes: int
    model_bytes: int
    table_bytes: int
    rss_growth_bytes: int | None


def measure_engine(
    engine: Engine, rows: Rows = "cold", rounds: int = 3, seconds: float = 0.2
) -> EngineFigures:
    """Speed and size of an engine alone, on drawn rows, pinned to one core where the system can.

    Args:
      engine: to be measured.
      rows: "cold" or "warm", see `draw_rows`.
      rounds: figures are medians over so many.
      seconds: of each round, for the single rows and for each batch size.
    """
    model, table = held_bytes(engine)
    start = time.perf_counter()
    build(Artifact(engine.compact, engine.about, engine.vocabularies), engine.path)
    load_ms = 1e3 * (time.perf_counter() - start)
    with one_core():
        found = measure({"engine": engine.score}, *draw_rows(engine.schema, rows), rounds, seconds)["engine"]
    return EngineFigures(found.p50_us, found.p99_us, found.rows_per_s, model, table, load_ms)


def load_measured(path: str | Path, level: str | None = None) -> tuple[Engine, Loading]:
    """An artifact's engine (see `serving.load`), and what loading it took; call it before all else."""
    path = Path(path)
    before, start = resident_bytes(), time.perf_counter()
    engine = load(path, level)
    load_ms = 1e3 * (time.perf_counter() - start)
    after = resident_bytes()
    growth = None if before is None or after is None else after - before
    return engine, Loading(load_ms, path.stat().st_size, *held_bytes(engine), growth)


def held_bytes(engine: Engine) -> tuple[int, int]:
    """Bytes of an engine's arrays without its table, and of the table (of a packed one, its index, too)."""
    table = engine.compact.table.nbytes + engine.compact.table_index.nbytes
    return sum(a.nbytes for a in to_arrays(engine.compact).values()) - table, table


def resident_bytes() -> int | None:
    """This process's resident memory; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def one_core() -> Iterator[int | None]:
    """Pins every thread of this process, and those that they start, to the last of its cores.

    Yields the core, or None where the system cannot; afterwards every thread has the cores that it had, and
    those started meanwhile have all.
    """
    try:
        allowed = os.sched_getaffinity(0)
        before = {thread: _pin(thread, {max(allowed)}) for thread in _threads()}
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield max(allowed)
    finally:
        for thread in _threads():
            _pin(thread, before.get(thread) or allowed)


def _threads() -> list[int]:
    """This process's threads; 0 is the one that calls."""
    return [0, *(int(thread.name) for thread in Path("/proc/self/task").glob("*") if thread.name.isdigit())]


def _pin(thread: int, cores: set[int]) -> set[int]:
    """Give a thread its cores; returns those it had, none if it ended meanwhile."""
    try:
        before = os.sched_getaffinity(thread)
        os.sched_setaffinity(thread, cores)
    except ProcessLookupError:
        return set()
    return before


def draw_rows(
    schema: Schema, kind: Rows, rows: int = _DRAWN_ROWS, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Random rows: ids i32[row, categorical] and values f32[row, numeric].

    Cold ids are uniform over each field's table rows, so that few of a large table's are in the caches; warm
    ones follow Zipf's law with exponent 1.3. Values are exponential.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([f.size for f in schema.categorical], np.int64)
    shape = (rows, len(sizes))
    ids = rng.integers(0, sizes, shape) if kind == "cold" else np.minimum(rng.zipf(_ZIPF, shape), sizes) - 1
    return ids.astype(np.int32), rng.exponential(1, (rows, len(schema.numeric))).astype(np.float32)


def measure(
    scorers: Mapping[str, Score],
    ids: np.ndarray,
    values: np.ndarray,
    rounds: int,
    seconds: float,
    batches: Sequence[int] = BATCHES,
    flush_bytes: int = 0,
    progress: Progress | None = None,
) -> dict[str, Timings]:
    """Times every scorer on the same rows.

    Args:
      scorers: functions of ids and values, by name.
      ids, values: i32[row, categorical] and f32[row, numeric] with at least as many rows as a batch.
      rounds: figures are medians over so many.
      seconds: of a scorer and round, for the single rows and for each batch size.
      batches: rows a call.
      flush_bytes: size of a buffer, larger than the last cache, written over between calls; 0: no flushing.
      progress: called after each scorer of a round.
    """
    single = [(ids[i : i + 1].copy(), values[i : i + 1].copy()) for i in range(min(_SINGLE_ROWS, len(ids)))]
    buffer = np.zeros(flush_bytes, np.uint8)
    found: dict[str, list[Timings]] = {name: [] for name in scorers}
    for done in range(rounds):
        for at, (name, score) in enumerate(scorers.items()):
            times = latencies_us(score, single, seconds)
            p50, p99, p999 = (float(p) for p in np.percentile(times, (50, 99, 99.9)))
            rates = {batch: rows_per_second(score, ids, values, batch, seconds) for batch in batches}
            flushed = flushed_us(score, single, buffer) if flush_bytes else None
            found[name].append(Timings(p50, p99, p999, rates, flushed))
            if progress:
                progress("measuring", done * len(scorers) + at + 1, rounds * len(scorers))
    return {name: _medians(rounds_of) for name, rounds_of in found.items()}


def _medians(found: Sequence[Timings]) -> Timings:
    rates = {batch: median(t.rows_per_s[batch] for t in found) for batch in found[0].rows_per_s}
    flushed = [t.flushed_us for t in found if t.flushed_us is not None]
    return Timings(
        p50_us=median(t.p50_us for t in found),
        p99_us=median(t.p99_us for t in found),
        p999_us=median(t.p999_us for t in found),
        rows_per_s=rates,
        flushed_us=median(flushed) if flushed else None,
    )


def latencies_us(score: Score, single: Sequence[tuple[np.ndarray, np.ndarray]], seconds: float) -> np.ndarray:
    """Microseconds of each call, one row a call: all rows given, or as many as the seconds allow.

    A call's own clock readings, some 0.1 us, are in it.
    """
    score(*single[0])  # compiles, where there is something to compile
    stop, out = time.perf_counter() + seconds, np.empty(len(single))
    for at, (ids, values) in enumerate(single):
        start = time.perf_counter_ns()
        score(ids, values)
        out[at] = time.perf_counter_ns() - start
        if at + 1 >= _LEAST_CALLS and at % 16 == 15 and time.perf_counter() > stop:
            return out[: at + 1] / 1000
    return out / 1000


def inside_us(engine: Engine, ids: np.ndarray, values: np.ndarray, rounds: int) -> InsideC | None:
    """Latency of one row without Python, by the native engine's own clock; None where it does not score."""
    if engine.native is None:
        return None
    few = slice(0, min(_SINGLE_ROWS, len(ids)))
    engine.native.latencies_ns(ids[few], values[few])
    each = [engine.native.latencies_ns(ids[few], values[few]) / 1000 for _ in range(rounds)]
    p50, p99 = (median(float(np.percentile(times, p)) for times in each) for p in (50, 99))
    return InsideC(p50, p99)


def flushed_us(score: Score, single: Sequence[tuple[np.ndarray, np.ndarray]], buffer: np.ndarray) -> float:
    """Median microseconds of a call with one row, the buffer written over before each."""
    out = []
    for at in range(_FLUSHED_CALLS):
        ids, values = single[at % len(single)]
        buffer += 1
        start = time.perf_counter_ns()
        score(ids, values)
        out.append(time.perf_counter_ns() - start)
    return median(out) / 1000


def rows_per_second(score: Score, ids: np.ndarray, values: np.ndarray, batch: int, seconds: float) -> float:
    """Rows scored a second, `batch` rows a call, each call the next rows, the first call not counted."""
    blocks = [(ids[i : i + batch], values[i : i + batch]) for i in range(0, len(ids) - batch + 1, batch)]
    score(*blocks[0])
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or not calls:
        score(*blocks[calls % len(blocks)])
        calls += 1
    return calls * batch / spent
