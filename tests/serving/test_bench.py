"""Measurement: figures are consistent, clocks are read where they should be, the core is given back."""

import mmap
import os
import threading
import time

import numpy as np
import pytest
from random_models import CATEGORICAL, MIXED, NUMERIC, artifact_of

from deeplight_jax.serving import bench
from deeplight_jax.serving.artifact import Artifact, save
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.structure import to_arrays, with_table


@pytest.mark.parametrize("rows", ["cold", "warm"])
def test_an_engines_figures_are_positive_and_consistent(rows):
    engine = build(artifact_of())
    found = bench.measure_engine(engine, rows, rounds=2, seconds=0.002)
    assert 0 < found.p50_us <= found.p99_us
    assert list(found.rows_per_s) == list(bench.BATCHES)
    assert min(found.rows_per_s.values()) > 0
    arrays = to_arrays(engine.compact)
    assert found.model_bytes + found.table_bytes == sum(a.nbytes for a in arrays.values())
    assert found.table_bytes == engine.compact.table.nbytes
    assert found.load_ms > 0


def test_a_scorers_time_is_what_it_takes():
    def score(ids, values):
        time.sleep(0.002 + 1e-5 * len(ids))

    rows = bench.draw_rows(MIXED, "cold", 256)
    found = bench.measure({"slow": score}, *rows, rounds=1, seconds=0.1, batches=(100,), flush_bytes=1 << 20)
    slow = found["slow"]
    assert slow.p50_us >= 2010
    assert slow.p50_us <= slow.p99_us <= slow.p999_us
    assert slow.rows_per_s[100] <= 100 / 0.003
    assert slow.flushed_us is not None
    assert slow.flushed_us >= 2010


def test_scorers_take_turns_within_each_round():
    calls, told = [], []
    rows = bench.draw_rows(MIXED, "cold", 64)
    scorers = {name: lambda ids, values, name=name: calls.append(name) for name in ("a", "b")}
    bench.measure(
        scorers, *rows, rounds=2, seconds=0, batches=(16,), progress=lambda *args: told.append(args)
    )
    turns = [name for at, name in enumerate(calls) if at == 0 or calls[at - 1] != name]
    assert turns == ["a", "b", "a", "b"]
    assert told == [("measuring", n, 4) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("schema", [MIXED, CATEGORICAL, NUMERIC])
@pytest.mark.parametrize("kind", ["cold", "warm"])
def test_drawn_rows_are_ones_the_engine_takes(schema, kind):
    ids, values = bench.draw_rows(schema, kind, 500)
    assert np.isfinite(build(artifact_of(schema=schema)).score(ids, values)).all()
    assert len(ids) == len(values) == 500


def test_cold_ids_are_uniform_and_warm_ones_lean_on_the_first():
    share = {k: (bench.draw_rows(MIXED, k, 20_000)[0][:, 2] == 0).mean() for k in ("cold", "warm")}
    assert share["cold"] == pytest.approx(1 / 5, abs=0.02)
    zipf = 1 / 3.93195  # 1 / zeta(1.3)
    assert share["warm"] == pytest.approx(zipf, abs=0.02)


def test_loading_is_measured_on_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, artifact_of())
    engine, loading = bench.load_measured(path)
    assert loading.file_bytes == path.stat().st_size
    assert (loading.model_bytes, loading.table_bytes) == bench.held_bytes(engine)
    assert loading.load_ms > 0


def test_a_packed_tables_index_is_a_part_of_it():
    found = with_table(artifact_of().compact, "packed")
    model, table = bench.held_bytes(build(Artifact(found, {}, {})))
    assert table == found.table.nbytes + 4 * (found.schema.num_rows + 1)
    assert model == bench.held_bytes(build(artifact_of()))[0]


def test_resident_memory_grows_with_what_is_held():
    before = bench.resident_bytes()
    if before is None:
        pytest.skip("this system does not tell")
    size = 64 << 20
    with mmap.mmap(-1, size) as held:  # pages of its own, whatever others gave back
        held.write(b"1" * size)
        after = bench.resident_bytes()
    assert after is not None
    assert after - before > 0.9 * size


def test_the_cores_are_given_back():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no affinity here")
    before, stop, ready = os.sched_getaffinity(0), threading.Event(), threading.Event()
    waiting = threading.Thread(target=lambda: (ready.set(), stop.wait()))
    waiting.start()
    ready.wait()
    with bench.one_core() as core:
        pinned = [os.sched_getaffinity(thread) for thread in (0, waiting.native_id)]
    restored = [os.sched_getaffinity(thread) for thread in (0, waiting.native_id)]
    stop.set()
    waiting.join()
    assert pinned == [{core}, {core}]
    assert restored == [before, before]


def test_a_system_without_affinity_is_measured_unpinned(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with bench.one_core() as core:
        assert core is None
