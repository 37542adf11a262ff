"""Table formats: what is stored is read back within its rounding, by NumPy and by every native level."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from levels import NATIVE_LEVELS
from random_models import CASES, MIXED, SCHEMAS, config_of, random_params, random_rows, schema_of

from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import artifact, native, tables
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.structure import with_table

OTHERS = [form for form in tables.FORMATS if form != "f32"]
needs_native = pytest.mark.skipif(not NATIVE_LEVELS, reason="the native engine was not built")


def compact_of(name="deepfwfm", schema=MIXED, seed=0, **options):
    params = random_params(name, schema, seed, {"dnn": 0.5, "embedding": 0.6, "field": 0.5}, **options)
    return compact(config_of(name, **options).model, schema, params)


def random_table(seed, rows, dim, kept, scale):
    rng = np.random.default_rng(seed)
    out = np.zeros((rows, -(-(dim + 1) // 16) * 16), np.float32)
    shape = (rows, dim + 1)
    out[:, : dim + 1] = rng.standard_normal(shape) * scale * (rng.random(shape) < kept)
    return out


def bf16(x):
    """The nearest number whose upper 16 bits say it all, by comparing its two neighbours in float64."""
    below = np.uint32(np.float32(x).view(np.uint32) & 0xFFFF0000)
    one, two = (float(np.uint32(b).view(np.float32)) for b in (below, below + 0x10000))
    if abs(x - one) == abs(x - two):
        return one if (int(below) >> 16) % 2 == 0 else two
    return one if abs(x - one) < abs(x - two) else two


@given(
    seed=st.integers(0, 2**31),
    dim=st.sampled_from([0, 1, 3, 10, 15, 16, 31, 32, 40]),
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_every_format_gives_its_rounding_of_every_value(seed, dim, kept, scale):
    table = random_table(seed, 9, dim, kept, scale)
    wanted, rows = table[:, : dim + 1], np.array([[8, 0, 3], [3, 7, 1]])
    for form in tables.FORMATS:
        stored = tables.encode(table, dim, form)
        tables.check(stored, 9, dim, form)
        found = tables.decode(stored, dim, form, np.arange(9))
        assert (found.shape, found.dtype) == ((9, dim + 1), np.float32)
        np.testing.assert_array_equal(tables.decode(stored, dim, form, rows), found[rows])
        if form in tables.EXACT:
            np.testing.assert_array_equal(found, wanted)
        elif form == "bf16":
            np.testing.assert_array_equal(found, [[bf16(float(x)) for x in row] for row in wanted])
        else:
            largest = np.abs(wanted[:, :dim]).max(axis=1, initial=0)
            error = np.abs(found[:, :dim].astype(np.float64) - wanted[:, :dim])
            assert (error <= 0.51 / 127 * largest[:, None] + 1e-30).all()
            np.testing.assert_array_equal(found[:, dim], [bf16(float(x)) for x in wanted[:, dim]])


def test_sizes_of_a_row_of_ten_values_four_of_ten_pruned():
    table = random_table(0, 10_000, 10, 0.6, 0.1)
    found = {f: sum(a.nbytes for a in tables.encode(table, 10, f)) / 10_000 for f in tables.FORMATS}
    assert (found["f32"], found["bf16"], found["int8"]) == (64, 32, 16)
    assert found["packed"] == pytest.approx(4 + 4 + 4 * 0.6 * 11, rel=0.02)


def test_values_too_large_for_bf16_are_refused():
    table = np.full((1, 16), 3.4e38, np.float32)
    with pytest.raises(ArtifactError, match="too large for bf16"):
        tables.encode(table, 3, "bf16")


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("form", OTHERS)
@settings(max_examples=25)
@given(
    case=st.sampled_from(CASES),
    schema=st.sampled_from(sorted(SCHEMAS)),
    rows=st.sampled_from([1, 2, 4, 16, 17, 33, 100]),
    seed=st.integers(0, 2**31),
)
def test_every_level_scores_every_format_as_numpy(level, form, case, schema, rows, seed):
    name, options = case
    made = Artifact(with_table(compact_of(name, SCHEMAS[schema], seed, **options), form), {}, {})
    ids, values = random_rows(SCHEMAS[schema], rows, seed)
    wanted = build(made, "numpy").logits(ids, values)
    np.testing.assert_allclose(build(made, level).logits(ids, values), wanted, rtol=1e-5, atol=1e-5)


@needs_native
@pytest.mark.parametrize("level", NATIVE_LEVELS)
def test_packed_rows_score_as_floats_do_bit_for_bit(level):
    schema = schema_of(13, tuple(range(2, 28)))
    made = compact_of(schema=schema, embedding_dim=10, hidden=(40, 30))
    ids, values = random_rows(schema, 333, 0)
    for rows in (slice(None), slice(0, 1), slice(7, 10)):
        found, wanted = (
            build(Artifact(m, {}, {}), level).logits(ids[rows], values[rows])
            for m in (with_table(made, "packed"), made)
        )
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", OTHERS)
def test_a_file_keeps_its_format(tmp_path, form):
    made = Artifact(with_table(compact_of(), form), {}, {})
    artifact.save(tmp_path / "m.safetensors", made)
    found = artifact.load(tmp_path / "m.safetensors")
    assert found.compact.table_format == form
    assert found.compact.counts() == made.compact.counts()
    ids, values = random_rows(MIXED, 50, 3)
    np.testing.assert_array_equal(build(found).logits(ids, values), build(made).logits(ids, values))


def packed():
    made = with_table(compact_of(), "packed")
    return made, made.table.copy(), made.table_index.copy()


DAMAGES = {
    "a bit more": lambda t, i: t.__setitem__(0, t[0] ^ 1),
    "a bit past the values": lambda t, i: t.__setitem__(0, t[0] | 1 << 30),
    "a place past the end": lambda t, i: i.__setitem__(3, 1 << 31),
    "a place before the last": lambda t, i: i.__setitem__(3, i[2] - 1 if i[2] else 9),
    "not from the start": lambda t, i: i.__setitem__(0, 1),
    "not to the end": lambda t, i: i.__setitem__(-1, i[-1] - 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_packed_table_that_points_outside_is_refused(damage):
    made, table, index = packed()
    DAMAGES[damage](table, index)
    with pytest.raises(ArtifactError, match="packed table points outside itself"):
        tables.check(tables.Stored(table, index), MIXED.num_rows, made.dim, "packed")
    if native.available():
        changed = with_arrays(made, table, index)
        with pytest.raises(ValueError, match=r"points outside itself|does not fit"):
            native.load(changed)


def with_arrays(made, table, index):
    return replace(made, table=table, table_index=index)


@pytest.mark.parametrize("form", OTHERS)
def test_arrays_of_another_size_are_refused(form):
    made = with_table(compact_of(), form)
    for table, index in ((made.table[:-1], made.table_index), (made.table, made.table_index[:-1])):
        if index is not made.table_index and form != "packed":
            index = np.zeros(3, np.uint32)
        with pytest.raises(ArtifactError):
            tables.check(tables.Stored(table, index), MIXED.num_rows, made.dim, form)
    if native.available():
        with pytest.raises(ValueError, match="does not fit"):
            native.load(with_arrays(made, made.table[:-1], made.table_index))


def test_a_table_with_a_value_that_is_not_finite_is_refused():
    made = with_table(compact_of(), "bf16")
    made.table[2, 0] = 0x7F80
    with pytest.raises(ArtifactError, match="table holds a value that is not finite"):
        tables.check(tables.Stored(made.table, made.table_index), MIXED.num_rows, made.dim, "bf16")
