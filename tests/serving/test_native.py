"""The native engine scores as NumPy does, at every vector level, alone, in blocks and from C."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_library import ROOT, built
from hypothesis import given, settings
from hypothesis import strategies as st
from levels import NATIVE_LEVELS
from random_models import CASES, MIXED, SCHEMAS, config_of, random_params, random_rows, schema_of

from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving import engine as engines
from deeplight_jax.serving import native
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.tables import FORMATS

MODEL = ROOT / "tests/native/in_memory.c"
needs_native = pytest.mark.skipif(not native.available(), reason="the native engine was not built")
SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])


def artifact_of(name="deepfwfm", schema=MIXED, seed=0, kept=0.5, **options):
    params = random_params(name, schema, seed, {"dnn": kept, "embedding": 0.7, "field": kept}, **options)
    return Artifact(compact(config_of(name, **options).model, schema, params), {}, {})


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@settings(max_examples=12)
@given(
    schema=st.sampled_from(sorted(SCHEMAS)),
    kept=st.fixed_dictionaries(dict.fromkeys(("dnn", "field", "embedding"), SHARES)),
    seed=st.integers(0, 2**31),
    rows=st.sampled_from([1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 64, 100]),
)
def test_every_level_scores_as_numpy(level, name, options, schema, kept, seed, rows):
    fields = SCHEMAS[schema]
    made = compact(
        config_of(name, **options).model, fields, random_params(name, fields, seed, kept, **options)
    )
    ids, values = random_rows(fields, rows, seed)
    wanted = build(Artifact(made, {}, {}), "numpy").logits(ids, values)
    found = build(Artifact(made, {}, {}), level)
    assert found.path == level
    np.testing.assert_allclose(found.logits(ids, values), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.score(ids, values), 1 / (1 + np.exp(-wanted)), rtol=2e-5, atol=1e-6)


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
def test_wide_nets_of_many_fields(level):
    schema = schema_of(13, tuple(range(2, 28)))
    found = artifact_of(schema=schema, kept=0.05, embedding_dim=10, hidden=(100, 90, 80))
    ids, values = random_rows(schema, 333, 0)
    wanted = build(found, "numpy").logits(ids, values)
    engine = build(found, level)
    np.testing.assert_allclose(engine.logits(ids, values), wanted, rtol=1e-5, atol=1e-5)
    alone = np.concatenate([engine.logits(ids[i : i + 1], values[i : i + 1]) for i in range(333)])
    np.testing.assert_allclose(alone, wanted, rtol=1e-5, atol=1e-5)


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("fields", [1, 3, 7, 8, 9, 15, 16, 17, 26, 33])  # around whole vectors of cells
def test_a_bad_cell_is_found_wherever_it_stands_in_a_block(fields, level):
    schema = schema_of(fields, tuple(range(2, 2 + fields)))
    found = build(artifact_of(schema=schema), level)
    ids, values = random_rows(schema, 37, 0)
    ids[:] = [f.size - 1 for f in schema.categorical]  # the greatest there are
    assert np.isfinite(found.logits(ids, values)).all()
    for column in range(fields):
        row = (11 * column + 36) % 37
        for cells, bad, said in (
            (ids, schema.categorical[column].size, "is outside"),
            (ids, -1, "is outside"),
            (values, np.nan, "is not finite"),
            (values, -np.inf, "is not finite"),
        ):
            kept = cells[row, column]
            cells[row, column] = bad
            with pytest.raises(DataError, match=rf"row {row}, field \w+: .*{said}"):
                found.logits(ids, values)
            cells[row, column] = kept


@needs_native
def test_threads_share_an_engine():
    engine = build(artifact_of())
    ids, values = random_rows(MIXED, 2000, 1)
    wanted = engine.score(ids, values)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: engine.score(ids, values), range(40)):
            np.testing.assert_array_equal(scores, wanted)


@needs_native
def test_an_engine_outlives_what_it_was_made_of():
    engine = build(artifact_of())
    ids, values = random_rows(MIXED, 40, 1)
    wanted = engine.score(ids, values)
    run = engine._score
    del engine
    np.testing.assert_array_equal(run(ids, values), wanted)


@needs_native
def test_without_the_known_layout_of_arrays_scores_are_the_same(monkeypatch):
    engine = build(artifact_of())
    ids, values = random_rows(MIXED, 40, 1)
    wanted = engine.score(ids, values)
    assert not native._deeplight.learn(ids[:2, :2].copy(), values[:2].copy())  # no probes as it wants them
    try:
        np.testing.assert_array_equal(engine.score(ids, values), wanted)
        np.testing.assert_array_equal(
            engine.score(ids[:1], values[:1]), build(artifact_of()).score(ids[:1], values[:1])
        )
    finally:
        assert native._deeplight.learn(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32))


class Own(np.ndarray):
    """An array of a type that is not NumPy's own."""


@needs_native
def test_every_array_that_fits_gives_the_same_scores():
    engine = build(artifact_of())
    ids, values = random_rows(MIXED, 5, 1)
    wanted = engine.score(ids, values)
    frozen = ids.copy()
    frozen.flags.writeable = False
    shifted = np.zeros(ids.nbytes + 1, np.uint8)[1:].view(np.int32).reshape(ids.shape)  # not aligned
    shifted[:] = ids
    other = ids.astype(np.dtype("i4", metadata={"unit": "id"}))  # an equal dtype, another object
    for rows in (
        ids.view(Own),
        frozen,
        shifted,
        other,
        np.repeat(ids, 2, axis=1)[:, ::2],
        np.asfortranarray(ids),
    ):
        np.testing.assert_array_equal(engine.score(rows, values), wanted)
    for arguments in ((ids,), (ids, values, 1), ()):
        with pytest.raises(TypeError):
            engine._score(*arguments)


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
def test_latencies_are_taken_of_every_row(level):
    engine = build(artifact_of(), level)
    ids, values = random_rows(MIXED, 300, 1)
    found = engine.native.latencies_ns(ids, values)
    assert (found.shape, found.dtype) == ((300,), np.int64)
    assert (found > 0).all()
    assert np.median(found) < 1e6
    ids[200, 0] = -1
    with pytest.raises(ValueError, match="code 4"):
        engine.native.latencies_ns(ids, values)
    with pytest.raises(ValueError, match="shape"):
        engine.native.latencies_ns(ids[:1], values)


@needs_native
@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, quadratic=c.quadratic._replace(indices=c.quadratic.indices + 1000)),
        lambda c: replace(c, quadratic=c.quadratic._replace(indptr=c.quadratic.indptr[:-1])),
        lambda c: replace(c, table=c.table[:-1]),
        lambda c: replace(c, output=c.output[:-1]),
        lambda c: replace(c, net_input="pooled"),
        lambda c: replace(c, dim=16),
        lambda c: replace(c, layers=c.layers[1:]),
        lambda c: replace(c, layers=(c.layers[0]._replace(bias=c.layers[0].bias[1:]), *c.layers[1:])),
    ],
)
def test_a_structure_that_points_outside_is_refused_by_the_engine_itself(change):
    with pytest.raises(ValueError, match=r"damaged|fit"):
        native.load(change(artifact_of(kept=1.0).compact))


MANY_FIELDS = """
from pathlib import Path
import numpy as np
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.serving import native
from deeplight_jax.serving.structure import Compact, sparse

def peak_kb():
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("VmHWM:")[1].split()[0])

fields = Schema(tuple(Field(f"c{i}", "categorical", 1) for i in range(10_000)))
table, one, none = np.ones((10_000, 16), np.float32), np.ones(1, np.float32), np.zeros((0, 2), np.int32)
made = Compact(fields, 0, table, one, sparse(np.zeros((0, 0))), False, "none", none, (), one[:0])
before = peak_kb()
native.load(made)
print(peak_kb() - before)
"""


@needs_native
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a peak")
def test_loading_takes_memory_for_the_pairs_that_there_are():
    """Not for each two of the 10,000 fields, which would be 400 MB."""
    ran = subprocess.run([sys.executable, "-c", MANY_FIELDS], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 100_000  # kB


@needs_native
def test_rows_too_wide_to_be_addressed_are_refused():
    """A row alone would take 4,096 times 2^20 floats, a count that 32 bits wrap to none."""
    fields, none = 4096, np.zeros(0, np.int32)
    about = (0, 1, 1 << 20, 0.0, 0, 0, FORMATS.index("bf16"))
    empty = (np.zeros(fields + 1, np.int32), none, none.view(np.float32), fields)
    sizes, table = np.ones(fields, np.int32), np.zeros((fields, 16), np.uint16)
    rest = (none.view(np.uint32), about, empty, none, (), none.view(np.float32))
    with pytest.raises(ValueError, match="rows too wide"):
        native._deeplight.load(None, sizes, table, *rest)


@needs_native
def test_a_level_that_is_not_there_is_named():
    with pytest.raises(ArtifactError, match=r"vector level avx1024 is not there.*portable, numpy"):
        build(artifact_of(), "avx1024")


def test_without_the_engine_numpy_scores_and_says_so_once(monkeypatch):
    said = []
    monkeypatch.setattr(engines._log, "warning", said.append)
    monkeypatch.setattr(native, "_deeplight", None)
    engines._say_once.cache_clear()
    found = artifact_of()
    assert [build(found).path for _ in range(3)] == ["numpy"] * 3
    assert [text.count("scoring by NumPy") for text in said] == [1]
    with pytest.raises(ArtifactError, match="was not built; use numpy"):
        build(found, "portable")


@pytest.fixture(scope="module")
def example(linked):
    """The output lines of a program that hands a model over in memory."""
    ran = subprocess.run([built(linked, MODEL, "-std=c11")], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_c_program_scores_without_python(example):
    a, b = [(1, -1, 0.1), (0.5, 2, 0.2)], [(1, 1, 0), (-1, 0.5, 0.3), (2, 0, -0.4)]
    for r in range(40):
        x, (a0, a1, a_linear), (b0, b1, b_linear) = 0.25 * (r % 5), a[r % 2], b[r % 3]
        logit = -0.5 + 0.5 * x + a_linear + b_linear + 0.5 * (a0 * b0 + a1 * b1)
        logit -= max(0, 2 * x - a1 + 0.25)
        found = [float(cell) for cell in example[r].split()]
        assert found == pytest.approx([logit, 1 / (1 + math.exp(-logit))], abs=1e-6)


def test_the_c_interface_words_its_errors(example):
    assert example[40] == "4 row 7: id 3 of categorical field 1 is outside 0 to 2"
    assert example[41] == "refused: the model is damaged: quadratic points outside itself"
