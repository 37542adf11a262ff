"""Models that JAX serves: what the file keeps, what it refuses, and how many programs are compiled."""

import json
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from random_models import CATEGORICAL, MIXED, NUMERIC, config_of, random_params, random_rows, schema_of
from random_models import shapes as shapes_of

from deeplight_jax import serving
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.evaluation import evaluate
from deeplight_jax.models import build_model
from deeplight_jax.serving.artifact import Artifact, load, reread, save
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.whole import Whole, check_same, from_arrays, to_arrays, whole
from deeplight_jax.serving.whole import settings as settings_of
from deeplight_jax.sparsity.packing import pack

SMALL = {"hash_buckets": 50, "cin": "(4,2)", "cross_layers": 2, "attention_layers": 1, "attention_units": 2}


def whole_of(name="dcnv2", schema=MIXED, seed=0, kept=0.3):
    components = dict.fromkeys(("dnn", "embedding", "cross", "cin", "field", "attention"), kept)
    params = random_params(name, schema, seed, components, **SMALL)
    return whole(config_of(name, **SMALL).model.to_dict(), schema, params), params


def engine_of(**options):
    made, params = whole_of(**options)
    return build(Artifact(made, {}, {})), params


FLOATS = st.one_of(st.just(0.0), st.just(-0.0), st.floats(-(2.0**99), 2.0**99, width=32))
SHAPES_DRAWN = st.sampled_from([(), (1,), (7,), (8,), (3, 41), (0, 4)])


@given(arrays_of.arrays(np.float32, SHAPES_DRAWN, elements=FLOATS))
def test_an_array_comes_back_exactly_from_the_smaller_of_two_forms(array):
    made = Whole(MIXED, {}, {"a/b": array})
    stored = to_arrays(made)
    back = from_arrays(json.loads(json.dumps(settings_of(made))), stored).params["a/b"]
    assert (back.shape, (back + 0).tobytes()) == (array.shape, (array + 0).tobytes())  # -0 + 0 is 0
    sparse_bytes = -(-array.size // 8) + 4 * np.count_nonzero(array)
    assert sum(a.nbytes for a in stored.values()) == min(array.nbytes, sparse_bytes)


def test_the_bits_are_those_of_packed_masks():
    table = np.zeros((5, 7), np.float32)
    table[[0, 3, 4], [6, 2, 0]] = 1.5
    stored = to_arrays(Whole(MIXED, {}, {"t": table}))
    np.testing.assert_array_equal(stored["t.bits"], pack({"t": table != 0})["t"].bits)
    assert stored["t.values"].tolist() == [1.5] * 3


@pytest.mark.parametrize("name", ["poly2", "ffm", "fmfm", "pnn", "dcn", "dcnv2", "autoint", "xdeepfm"])
@pytest.mark.parametrize("schema", [MIXED, CATEGORICAL], ids=["mixed", "categorical"])
def test_a_saved_model_scores_as_its_module(name, schema, tmp_path):
    made, params = whole_of(name=name, schema=schema)
    save(tmp_path / "m.safetensors", Artifact(made, {"a": 1}, {}))
    engine = serving.load(tmp_path / "m.safetensors")
    assert (engine.path, engine.about, engine.schema) == ("jax", {"a": 1}, schema)
    ids, values = random_rows(schema, 70, 1)
    module = build_model(config_of(name, **SMALL), schema)
    with jax.default_matmul_precision("highest"):
        wanted = np.asarray(module.apply({"params": params}, ids, values))
    found = engine.logits(ids, values)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(engine.score(ids, values), 1 / (1 + np.exp(-found.astype(float))), rtol=1e-5)
    check_same(load(tmp_path / "m.safetensors").model, params)
    with pytest.raises(ArtifactError, match=rf"model {name} has no compact form"):
        _ = engine.compact


def test_zeros_are_left_out_of_the_file(tmp_path):
    schema = replace(MIXED, fields=(*MIXED.fields[:-1], replace(MIXED.fields[-1], size=5000)))
    sizes = {}
    for kept in (1.0, 0.1):
        made, _ = whole_of(schema=schema, kept=kept)
        save(tmp_path / "m.safetensors", Artifact(made, {}, {}))
        sizes[kept] = (tmp_path / "m.safetensors").stat().st_size
        assert made.counts()["embedding"] == np.count_nonzero(made.params["embedding/table"])
    assert sizes[0.1] < 0.25 * sizes[1.0]


def test_odd_batch_sizes_share_a_few_programs():
    schema = schema_of(1, (3, 2))
    engine, _ = engine_of(name="pnn", schema=schema)
    ids, values = random_rows(schema, 2500, 0)
    wanted = engine.logits(ids, values)
    before = evaluate._forward._cache_size()
    sizes = [*range(1, 40), 63, 64, 65, 255, 257, 1000, 1023, 1024, 1025, 2047, 2500]
    for size in sizes:
        np.testing.assert_allclose(engine.logits(ids[:size], values[:size]), wanted[:size], rtol=1e-5,
                                   atol=1e-5)  # fmt: skip
    assert evaluate._forward._cache_size() - before == 5  # 1, 4, 16, 64, 256; 1024 was there


@settings(max_examples=25)
@given(
    st.integers(0, 40), st.integers(0, 2), st.sampled_from([-1, 5, 2**31 - 1, -(2**31)]),
    st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans(),
)  # fmt: skip
def test_a_bad_cell_is_named(row, column, bad, odd, in_ids):
    engine, _ = engine_of()
    ids, values = random_rows(MIXED, 41, 0)
    if in_ids:
        ids[row, column] = bad
        named = rf"row {row}, field c{column}: id {bad} is outside"
    else:
        values[row, column % 2] = odd
        named = rf"row {row}, field x{column % 2}: {odd} is not finite"
    with pytest.raises(DataError, match=named):
        engine.score(ids, values)


def test_other_arrays_are_named_and_no_rows_give_no_scores():
    engine, _ = engine_of()
    ids, values = random_rows(MIXED, 4, 0)
    with pytest.raises(DataError, match="ids must be a NumPy array of int32, not int64"):
        engine.score(ids.astype(np.int64), values)
    with pytest.raises(DataError, match=r"values has shape \[4, 1\], it must be \[row, 2\]"):
        engine.score(ids, values[:, :1])
    assert engine.score(ids[:0], values[:0]).shape == (0,)
    numeric, _ = engine_of(schema=NUMERIC)
    assert numeric.score(*random_rows(NUMERIC, 3, 0)).shape == (3,)


def test_a_logit_that_is_no_number_is_no_score():
    engine, _ = engine_of(kept=1.0)
    ids, values = random_rows(MIXED, 3, 0)
    values[1] = 3e38
    try:
        scores = engine.score(ids, values)
    except DataError as error:
        assert "row 1: its logit is not a number" in str(error)  # noqa: PT017 (by the sign of the weights)
    else:
        assert np.isfinite(scores).all()


def test_without_jax_the_remedy_is_named(monkeypatch, tmp_path):
    made, _ = whole_of()
    save(tmp_path / "m.safetensors", Artifact(made, {}, {}))
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(
        ArtifactError, match=r"model dcnv2 .* served by JAX, which cannot .* install jax and flax"
    ):
        serving.load(tmp_path / "m.safetensors")


def test_no_other_level_serves_it():
    made, _ = whole_of()
    with pytest.raises(ArtifactError, match="no level avx2: model dcnv2 has no compact form"):
        build(Artifact(made, {}, {}), "avx2")


LIES = {
    "more layers": (
        "model",
        {"cross_layers": 3},
        r"cross/bias_2 is not there, model dcnv2 has float32\[15\]",
    ),
    "wider layers": ("model", {"hidden": [8, 5]}, r"deep/hidden_0/bias is float32\[7\], .* has float32\[8\]"),
    "another model": ("model", {"name": "dcn"}, r"parameter cross/kernel_0 is float32"),
    "an unknown model": ("model", {"name": "dcnv3"}, r"make no model \(model.name='dcnv3'"),
    "an unknown setting": ("model", {"lerning": 1}, "unknown config key 'model.lerning'"),
    "a text for a number": ("model", {"embedding_dim": "many"}, "model.embedding_dim='many'"),
    "a huge dim": ("model", {"embedding_dim": 1 << 60}, "make no model|its parameter"),
}


@pytest.mark.parametrize("lie", LIES)
def test_settings_of_another_model_are_refused(lie):
    part, change, named = LIES[lie]
    made, _ = whole_of()
    told = settings_of(made)
    told[part] |= change
    with pytest.raises(ArtifactError, match=named):
        build(Artifact(from_arrays(told, to_arrays(made)), {}, {}))


TABLE = "embedding/table"
SHAPES = {
    "a size past the end": ([1 << 40, 3], r"table\.bits is uint8\[6\], for"),
    "a negative size": ([-1, 3], "has no shape"),
    "a size of text": (["14", 3], "has no shape"),
    "one size less": ([14], r"table\.bits is"),
    "no list": (3, "has no shape"),
    "a bool": ([True, 42], "has no shape"),
}


@pytest.mark.parametrize("lie", SHAPES)
def test_shapes_that_lie_are_refused(lie):
    shape, named = SHAPES[lie]
    made, _ = whole_of()
    assert (
        made.params[TABLE].shape
        == (14, 3)
        == tuple(shapes_of("dcnv2", MIXED, **SMALL)[0]["embedding"]["table"].shape)
    )
    told = settings_of(made)
    told["shapes"][TABLE] = shape
    with pytest.raises(ArtifactError, match=named):
        from_arrays(told, to_arrays(made))


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        (f"{TABLE}.values", lambda a: a[:-1], "not have a float32 for each bit"),
        (f"{TABLE}.values", lambda a: a.astype(np.float64), "not have a float32 for each bit"),
        (f"{TABLE}.values", lambda a: a * np.nan, "holds a value that is not finite"),
        (f"{TABLE}.bits", lambda a: a ^ 1, "not have a float32 for each bit"),
        (f"{TABLE}.bits", lambda a: a[:-1], r"\.bits is uint8"),
        (f"{TABLE}.bits", lambda a: None, r"no 'embedding/table\.bits'"),
        ("cross/bias_0", lambda a: a[:-1], r"cross/bias_0 is float32\[14\], not float32\[15\]"),
        ("cross/bias_0", lambda a: a.view(np.int32), "cross/bias_0 is int32"),
        ("cross/bias_0", lambda a: a * np.inf, "cross/bias_0 holds a value that is not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_named(name, change, named):
    made, _ = whole_of()
    stored = to_arrays(made)
    stored[name] = change(stored[name])
    with pytest.raises(ArtifactError, match=named):
        from_arrays(settings_of(made), {k: v for k, v in stored.items() if v is not None})


def test_an_array_without_a_shape_is_refused():
    made, _ = whole_of()
    with pytest.raises(ArtifactError, match="its array extra has no shape"):
        from_arrays(settings_of(made), {**to_arrays(made), "extra": np.zeros(3, np.float32)})


def test_a_diverged_model_is_not_exported():
    made, params = whole_of()
    params["cross"]["bias_1"][3] = np.nan
    with pytest.raises(ArtifactError, match="cross/bias_1 is not finite: the model has diverged"):
        whole(made.model, MIXED, params)


def test_a_parameter_that_is_not_the_runs_is_named():
    made, params = whole_of()
    check_same(reread(made), params)
    params["output"]["kernel"] = np.nextafter(params["output"]["kernel"], np.float32(9))
    with pytest.raises(ArtifactError, match="parameter output/kernel of the artifact is not the run's"):
        check_same(made, params)
