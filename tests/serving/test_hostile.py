"""Hostile input at every scorer: bad cells anywhere, arrays of every make, ten million rows in one call."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from levels import NATIVE_LEVELS
from random_models import MIXED, config_of, random_params, random_rows

from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.serving import engine as engines
from deeplight_jax.serving.artifact import Artifact, load, save
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.whole import whole

PATHS = ["numpy", "jax", *NATIVE_LEVELS]
DTYPES = ["i4", "f4", "i8", "u4", "f8", ">i4", ">f4", "f2", "?", "O", "U3"]
INT32 = st.integers(-(2**31), 2**31 - 1)


@cache
def artifact_of(path):
    name, kept = ("dcn" if path == "jax" else "deepfwfm"), {"dnn": 0.5, "embedding": 0.7, "field": 0.5}
    params = random_params(name, MIXED, 0, kept)
    config = config_of(name).model
    made = whole(config.to_dict(), MIXED, params) if path == "jax" else compact(config, MIXED, params)
    return Artifact(made, {"note": "hostile"}, {"c0": b"a\t3\n"})


@cache
def engine_of(path):
    return build(artifact_of(path), path)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_row_is_scored_if_and_only_if_its_cells_are_good(path, data):
    """Any ids and any floats at all: the first bad row is named, or every score is a probability."""
    rows = data.draw(st.sampled_from([1, 2, 17, 40]))
    ids, values = random_rows(MIXED, rows, data.draw(st.integers(0, 9)))
    sizes = [f.size for f in MIXED.categorical]
    for _ in range(data.draw(st.integers(0, 3))):
        row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, 2))
        ids[row, column] = data.draw(INT32 | st.integers(-2, 6))
    for _ in range(data.draw(st.integers(0, 3))):
        row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, 1))
        values[row, column] = data.draw(st.floats(width=32))
    bad_ids = [int(r) for r in range(rows) if any(not 0 <= i < n for i, n in zip(ids[r].tolist(), sizes,
               strict=True))]  # fmt: skip
    bad_values = [r for r in range(rows) if not np.isfinite(values[r]).all()]
    try:
        scores = engine_of(path).score(ids, values)
    except DataError as error:
        text = str(error)
        if bad_ids:
            assert text.startswith(f"row {bad_ids[0]}, field c")
        elif bad_values:
            assert text.startswith(f"row {bad_values[0]}, field x")
        else:  # finite, but their products are not
            assert "its logit is not a number; its values are too large for float32" in text
            assert np.abs(values).max() > 1e6  # a model's cross layers take its fourth power
    else:
        assert not bad_ids
        assert not bad_values
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=40)
@given(
    dtypes=st.tuples(*[st.sampled_from(DTYPES)] * 2),
    shapes=st.tuples(*[st.lists(st.integers(0, 4), max_size=3).map(tuple)] * 2),
)
def test_arrays_of_any_make_are_scored_or_named(path, dtypes, shapes):
    ids, values = (np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
    good = ids.dtype == np.int32 and values.dtype == np.float32
    good = good and ids.shape[1:] == (3,) and values.shape[1:] == (2,) and len(ids) == len(values)
    if good:
        assert engine_of(path).score(ids, values).shape == (len(ids),)
        return
    with pytest.raises(DataError, match=r"^(ids|values) (must be a NumPy array|has (shape|\d+ rows))"):
        engine_of(path).score(ids, values)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "given_instead", [None, [], "rows", 3, np.int32(3), memoryview(b"1234")], ids=lambda x: type(x).__name__
)
def test_what_is_no_array_is_named(path, given_instead):
    _, values = random_rows(MIXED, 4, 0)
    with pytest.raises(DataError, match="ids must be a NumPy array of int32, not"):
        engine_of(path).score(given_instead, values)


@pytest.mark.parametrize("path", ["numpy", "jax"])
def test_a_bad_cell_far_down_is_named_by_its_own_row(path, monkeypatch):
    monkeypatch.setattr(engines, "_BLOCK_ROWS", 16)
    ids, values = random_rows(MIXED, 100, 0)
    values[:, 0] = 1
    values[77, 1] = np.nan
    with pytest.raises(DataError, match="row 77, field x1: nan is not finite"):
        engine_of(path).score(ids, values)
    ids[99, 2] = -5
    with pytest.raises(DataError, match="row 99, field c2: id -5 is outside 0 to 4"):
        engine_of(path).score(ids, values)


MILLIONS = """
import json, resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from random_models import config_of, random_params, random_rows, schema_of
from deeplight_jax.errors import DataError
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.whole import whole

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

schema, rows = schema_of(1, (5,)), int(sys.argv[3])
small = {"cross_layers": 1, "hidden": (2,), "embedding_dim": 1}
name = "dcn" if sys.argv[2] == "jax" else "lr"
model, params = config_of(name, **small).model, random_params(name, schema, 0, {}, **small)
made = whole(model.to_dict(), schema, params) if name == "dcn" else compact(model, schema, params)
engine = build(Artifact(made, {}, {}), sys.argv[2])
some = random_rows(schema, 4096, 0)
engine.score(*some)
ids, values = np.resize(some[0], (rows, 1)), np.resize(some[1], (rows, 1))
before = peak()
scores = engine.score(ids, values)
grown = peak() - before
same = bool(np.allclose(scores[-4096:], engine.score(ids[-4096:], values[-4096:]), rtol=1e-5))
ids[rows - 1, 0] = 5
try:
    engine.score(ids, values)
    named = ""
except DataError as error:
    named = str(error)
json.dump([len(scores), grown, same, named], sys.stdout)
"""


@pytest.mark.parametrize(
    ("path", "millions"), [("numpy", 10), ("jax", 3), *((level, 10) for level in NATIVE_LEVELS[:1])]
)
def test_ten_million_rows_in_one_call_take_bounded_memory(path, millions):
    """Beside the scores (4 bytes a row) and a bool for each, no copy of the rows (8 bytes)."""
    command = [sys.executable, "-c", MILLIONS, str(Path(__file__).parent), path, f"{millions}000000"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows, grown, same, named = json.loads(ran.stdout)
    assert (rows, same) == (millions * 1_000_000, True)
    assert grown < millions * 5e6 + 20e6
    assert named.startswith(f"row {millions * 1_000_000 - 1}, field c0: id 5 is outside 0 to 4")


@pytest.mark.parametrize("path", ["numpy", "jax"])
@settings(max_examples=80)
@given(data=st.data())
def test_a_file_with_anything_changed_is_refused_or_the_same(path, data, tmp_path_factory):
    """Flips, cuts, insertions and overwritten lengths, anywhere: never another model, never a crash."""
    file = tmp_path_factory.getbasetemp() / f"hostile-{path}.safetensors"
    if not file.exists():
        save(file, artifact_of(path))
    damaged = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 16))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "number", "zeros"]))
        if kind == "flip":
            damaged[min(at, len(damaged) - 1)] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 400))]
        elif kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            word = data.draw(st.integers(0, 2**64 - 1)) if kind == "number" else 0
            damaged[at : at + 8] = word.to_bytes(8, "little")
        if not damaged:
            break
    changed = file.with_name(f"changed-{path}.safetensors")
    changed.write_bytes(damaged)
    try:
        found = load(changed)
    except ArtifactError as error:
        assert str(changed) in str(error)  # noqa: PT017 (either outcome is right)
        return
    ids, values = random_rows(MIXED, 9, 0)
    wanted = engine_of(path).logits(ids, values)
    assert found.about == artifact_of(path).about
    assert found.vocabularies == artifact_of(path).vocabularies
    np.testing.assert_array_equal(build(found, path).logits(ids, values), wanted)
