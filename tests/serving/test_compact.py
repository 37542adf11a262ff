"""Compaction: the structure scores as the whole model does, and holds nothing that is dead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from random_models import CASES, MIXED, SCHEMAS, config_of, random_params, random_rows, schema_of

from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.forward import forward
from deeplight_jax.serving.structure import from_arrays, sparse, to_arrays
from deeplight_jax.serving.structure import settings as settings_of

SHARES = st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0])


def made(name, options, schema, params):
    return compact(config_of(name, **options).model, schema, params)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@settings(max_examples=25)
@given(
    schema=st.sampled_from(sorted(SCHEMAS)),
    kept=st.fixed_dictionaries(dict.fromkeys(("dnn", "field", "embedding", ""), SHARES)),
    seed=st.integers(0, 2**31),
    rows=st.sampled_from([1, 2, 7]),
)
def test_scores_as_the_oracle_does_on_the_whole_model(name, options, schema, kept, seed, rows):
    fields = SCHEMAS[schema]
    params = random_params(name, fields, seed, kept, **options)
    ids, values = random_rows(fields, rows, seed)
    found = forward(made(name, options, fields, params))(ids, values)
    wanted = oracle(name, fields, params, ids, values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@settings(max_examples=15)
@given(kept=st.sampled_from([0.0, 0.1, 0.3, 1.0]), seed=st.integers(0, 2**31))
def test_every_unit_left_is_fed_and_read(name, options, kept, seed):
    params = random_params(name, MIXED, seed, {"dnn": kept, "embedding": 0.5, "field": 0.5}, **options)
    found = made(name, options, MIXED, params)
    for i, layer in enumerate(found.layers):
        weights = layer.weights.dense()
        assert (weights != 0).any(axis=1).all()
        if i + 1 < len(found.layers):
            assert (found.layers[i + 1].weights.dense() != 0).any(axis=0).all()
        else:
            assert (found.output != 0).all()
        if i:
            assert ((weights > 0).any(axis=1) | (layer.bias > 0)).all()
    assert (found.quadratic.values != 0).all()


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_arrays_and_settings_read_back_as_the_same_structure(name, options):
    params = random_params(name, MIXED, 3, {"dnn": 0.4, "embedding": 0.7, "field": 0.4}, **options)
    first = made(name, options, MIXED, params)
    again = from_arrays(settings_of(first), to_arrays(first))
    ids, values = random_rows(MIXED, 9, 4)
    np.testing.assert_array_equal(forward(first)(ids, values), forward(again)(ids, values))
    assert again.counts() == first.counts()


def test_everything_pruned_leaves_a_constant():
    params = random_params("deepfwfm", MIXED, 0, {"dnn": 0.0, "embedding": 0.0, "field": 0.0})
    found = made("deepfwfm", {}, MIXED, params)
    assert found.layers == ()
    assert (found.net_input, len(found.output), len(found.quadratic.values)) == ("none", 0, 0)
    assert found.counts()["units"] == []
    ids, values = random_rows(MIXED, 4, 0)
    hidden = [params["deep"][f"hidden_{i}"] for i in range(2)]
    last = np.maximum(np.maximum(hidden[0]["bias"], 0) @ hidden[1]["kernel"] + hidden[1]["bias"], 0)
    wanted = params["fwfm"]["bias"] + last @ params["deep"]["output"]["kernel"][:, 0]
    np.testing.assert_allclose(forward(found)(ids, values), np.full(4, wanted), rtol=1e-6)


def test_a_pair_costs_k_entries_and_a_numeric_one_what_is_left_of_it():
    schema = schema_of(2, (2, 2))  # x, y, a, b
    params = random_params("fwfm", schema, 1, {}, linear="weights")
    params["fwfm"]["r"][:] = [0.5, 0, 0, 2, 0, 3]  # xy, xa, xb, ya, yb, ab
    params["embedding"]["table"][1, 2] = 0  # y has two values left of three
    found = made("fwfm", {"linear": "weights"}, schema, params)
    assert len(found.quadratic.values) == 1 + 2 + 3
    assert found.counts()["quadratic"] == 6


@pytest.mark.parametrize("name", ["xdeepfm", "dcn", "autoint", "poly2"])
def test_a_model_without_a_compact_form_is_refused_by_name(name):
    with pytest.raises(ArtifactError, match=rf"model {name} has no compact form.*deepfwfm"):
        compact({"name": name}, MIXED, {})


def test_a_parameter_that_is_not_finite_is_named():
    params = random_params("deepfm", MIXED, 0, {})
    params["deep"]["hidden_1"]["bias"][2] = np.nan
    with pytest.raises(ArtifactError, match=r"deep\.hidden_1\.bias is not finite"):
        made("deepfm", {}, MIXED, params)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("table", lambda a: a[:-1], "array table is float32"),
        ("table", lambda a: a.astype(np.float64), "array table is float64"),
        ("bias", lambda a: a * np.nan, "bias holds a value that is not finite"),
        ("output", lambda a: a[1:], "array output"),
        ("layer_0.indices", lambda a: a + 100, "layer_0 points outside"),
        ("layer_1.indptr", lambda a: a[::-1].copy(), "layer_1"),
        ("quadratic.indptr", lambda a: a[:0], r"quadratic\.indptr is empty"),
        ("layer_1.bias", lambda a: None, r"no 'layer_1\.bias'"),
    ],
)
def test_arrays_that_do_not_fit_are_named(name, change, named):
    found = made("deepfwfm", {}, MIXED, random_params("deepfwfm", MIXED, 0, {}))
    arrays = to_arrays(found)
    arrays[name] = change(arrays[name])
    with pytest.raises(ArtifactError, match=named):
        from_arrays(settings_of(found), {k: v for k, v in arrays.items() if v is not None})


def test_sparse_keeps_what_float32_can_tell_from_zero():
    dense = np.array([[0, 1e-60, 2], [0, 0, 0], [3, 0, -4]])
    found = sparse(dense)
    assert found.indptr.tolist() == [0, 1, 1, 3]
    assert (found.indices.tolist(), found.values.tolist()) == ([2, 0, 2], [2, 3, -4])
    np.testing.assert_array_equal(found.dense(), dense.astype(np.float32))
