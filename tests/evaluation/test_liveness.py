"""Dead units by walking every path, live pairs and pruned rows by name, and reports that add up."""

import json
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.evaluation.liveness import (
    compare_masks,
    dead_units,
    describe_masks,
    live_pairs,
    pruned_rows,
)
from deeplight_jax.models import MODELS, abstract_params, build_model
from deeplight_jax.models.deep import hidden_kernels
from deeplight_jax.sparsity.algebra import complete

SCHEMA = Schema((Field("x", "numeric", 1), Field("b", "categorical", 4), Field("c", "categorical", 3)))


def model_of(name, **settings):
    small = {"model.name": name, "model.embedding_dim": 2, "model.hidden": (5, 4, 3), "model.cin": (4, 4)}
    small |= {"model.hash_buckets": 16, "model.attention_units": 2}
    config = override(default_config(), small | {f"model.{k}": v for k, v in settings.items()})
    return abstract_params(build_model(config, SCHEMA), SCHEMA)


def random_masks(params, labels, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda keep: rng.random(keep.shape) < 0.4, complete({}, params, labels))


def reaches(kernels, layer, unit, towards):
    """Whether a path of kept weights leads from a unit to an end of the net, walked weight by weight."""
    if towards == "input":
        if layer < 0:
            return True
        sources = range(kernels[layer].shape[0])
        return any(kernels[layer][i, unit] and reaches(kernels, layer - 1, i, towards) for i in sources)
    if layer == len(kernels) - 1:
        return True
    targets = range(kernels[layer + 1].shape[1])
    return any(kernels[layer + 1][unit, j] and reaches(kernels, layer + 1, j, towards) for j in targets)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(0, 999), st.sampled_from([0.2, 0.5]))
def test_dead_units_are_those_without_a_path(sizes, seed, kept):
    rng = np.random.default_rng(seed)
    kernels = [rng.random(shape) < kept for shape in pairwise(sizes)]
    found = dead_units(kernels)
    assert len(found) == len(kernels)
    for layer, (units, without_input, without_output, dead) in enumerate(found):
        fed = [reaches(kernels, layer, u, "input") for u in range(units)]
        heard = [reaches(kernels, layer, u, "output") for u in range(units)]
        assert units == sizes[layer + 1]
        assert without_input == fed.count(False)
        assert without_output == heard.count(False)
        assert dead == sum(not (a and b) for a, b in zip(fed, heard, strict=True))
    assert dead_units([]) == []


def test_live_pairs_of_vectors_matrices_and_blocks():
    params, labels = model_of("deepfwfm")
    masks = random_masks(params, labels, 0)
    masks["fwfm"]["r"] = np.array([False, True, False])
    assert SCHEMA.pairs == (("x", "b"), ("x", "c"), ("b", "c"))
    assert describe_masks(masks, labels, SCHEMA, {})["live_pairs"] == [["x", "c"]]
    params, labels = model_of("fwfm", field_matrix="full")
    masks = random_masks(params, labels, 0)
    masks["fwfm"]["r"] = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]], bool)  # the diagonal is no pair
    np.testing.assert_array_equal(live_pairs(masks, labels, SCHEMA), [False, False, True])
    params, labels = model_of("fmfm")
    masks = random_masks(params, labels, 0)
    masks["m"] = np.zeros((3, 2, 2), bool)
    masks["m"][1, 0, 1] = True
    np.testing.assert_array_equal(live_pairs(masks, labels, SCHEMA), [False, True, False])
    params, labels = model_of("deepfm")
    assert live_pairs(random_masks(params, labels, 0), labels, SCHEMA) is None


def test_a_single_field_has_no_pairs():
    schema = Schema((Field("x", "numeric", 1),))
    masks, labels = {"r": np.ones(0, bool)}, {"r": "field"}
    shown = describe_masks(masks, labels, schema, {})
    assert shown["components"]["field"]["rate"] == 0
    assert (shown["pairs"], shown["live_pairs"]) == (0, [])


def test_rows_wholly_pruned_by_field():
    params, labels = model_of("fm")
    masks = complete({}, params, labels)
    table = masks["embedding"]["table"]
    table[[2, 3, 5]] = False
    table[0, 1] = False  # not wholly
    assert pruned_rows(masks, labels, SCHEMA) == {"x": (1, 0), "b": (4, 2), "c": (3, 1)}
    params, labels = model_of("poly2")
    assert pruned_rows(complete({}, params, labels), labels, SCHEMA) == {}


@pytest.mark.parametrize("name", MODELS)
def test_reports_of_every_model_add_up(name):
    params, labels = model_of(name)
    a, b = (random_masks(params, labels, seed) for seed in (0, 1))
    shown = json.loads(json.dumps(describe_masks(a, labels, SCHEMA, {"dnn": 0.5})))
    compared = json.loads(json.dumps(compare_masks(a, b, labels, SCHEMA)))
    codes = set(jax.tree.leaves(labels)) - {""}
    assert set(shown["components"]) == set(compared["components"]) == codes
    for code, part in shown["components"].items():
        layers, overlap = part["layers"].values(), compared["components"][code]
        assert part["kept"] == sum(x["kept"] for x in layers) == overlap["both"] + overlap["only_a"]
        assert part["total"] == sum(x["total"] for x in layers)
        assert part["rate"] == pytest.approx(1 - part["kept"] / part["total"])
        assert part["target"] == (0.5 if code == "dnn" else None)
        assert overlap["both"] == sum(x["both"] for x in overlap["layers"].values())
        assert 0 <= overlap["jaccard"] <= 1
    assert len(shown["dead_units"]) == (3 if "dnn" in codes else 0) == len(hidden_kernels(a))
    assert (shown["pairs"] == 3) == ("field" in codes)
    live_a, live_b = ({tuple(p) for p in describe_masks(m, labels, SCHEMA, {})["live_pairs"]} for m in (a, b))
    assert {tuple(p) for p in compared["pairs_lost"]} == live_a - live_b
    assert {tuple(p) for p in compared["pairs_gained"]} == live_b - live_a
