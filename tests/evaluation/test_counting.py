"""Parameter counts of Table 3; multiply-adds against kernels' shapes and by hand."""

import jax
import numpy as np
import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.evaluation.counting import PUBLISHED, count_params, multiply_adds, published_params
from deeplight_jax.models import MODELS, build_model, init_params

CRITEO = Schema(
    tuple(Field(f"I{i}", "numeric", 1) for i in range(1, 14))
    + tuple(Field(f"C{i}", "categorical", 51_001) for i in range(1, 26))
    + (Field("C26", "categorical", 1_326_055 - 13 - 25 * 51_001),)
)
AVAZU = Schema(tuple(Field(f"A{i}", "categorical", 1_544_392 // 23 + (i == 0) * 11) for i in range(23)))
SCHEMAS = {"criteo": CRITEO, "avazu": AVAZU}
TABLE_3 = {
    ("criteo", "lr"): 1_326_056,
    ("criteo", "fm"): 14_586_606,
    ("criteo", "fwfm"): 13_261_682,
    ("criteo", "deepfm"): 15_064_206,
    ("criteo", "nfm"): 15_204_206,
    ("criteo", "xdeepfm"): 15_508_958,
    ("criteo", "deepfwfm"): 13_739_321,
    ("avazu", "lr"): 1_544_393,
    ("avazu", "fm"): 32_432_233,
    ("avazu", "fwfm"): 30_888_853,
    ("avazu", "deepfm"): 32_751_433,
    ("avazu", "nfm"): 32_689_033,
    ("avazu", "deepfwfm"): 31_208_053,
}


def test_the_schemas_have_the_papers_rows():
    assert (CRITEO.num_rows, AVAZU.num_rows) == (1_326_055, 1_544_392)
    assert {(d, m) for d, models in PUBLISHED.items() for m in models} == set(TABLE_3)


@pytest.mark.parametrize(("dataset", "model"), TABLE_3)
def test_table_3_parameter_counts(dataset, model):
    assert published_params(dataset, model, SCHEMAS[dataset]) == TABLE_3[dataset, model]


def test_a_count_without_a_convention_is_refused():
    with pytest.raises(ConfigError, match="xdeepfm on avazu"):
        published_params("avazu", "xdeepfm", AVAZU)


SMALL = Schema(tuple(Field(f"c{i}", "categorical", 4) for i in range(5)))


def small(name, **options):
    sizes = {"embedding_dim": 3, "hidden": (7, 6), "cin": (4, 6, 2), "attention_units": 4, "hash_buckets": 11}
    sizes |= {"name": name, **options}
    return override(default_config(), {f"model.{k}": v for k, v in sizes.items()})


CASES = [(name, {}) for name in MODELS] + [
    ("nfm", {"nfm_pooling": "pairwise"}),
    ("xdeepfm", {"cin_split_half": False}),
    ("fwfm", {"linear_field_weight": False}),
    ("deepfwfm", {"linear": "weights"}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_kernels_of_the_deep_parts_are_used_as_often_as_counted(name, options):
    """Each kernel entry is one multiply-add a use; uses are counted from the parameters' shapes."""
    config = small(name, **options)
    params, _ = init_params(build_model(config, SMALL), SMALL, jax.random.key(0))
    found, n, k = multiply_adds(config, SMALL), SMALL.num_fields, 3
    sizes = {part: [np.shape(x) for x in jax.tree.leaves(tree)] for part, tree in params.items()}
    kernels = {p: sum(s[0] * s[1] for s in shapes if len(s) == 2) for p, shapes in sizes.items()}
    if "deep" in params:
        assert found["deep"] == kernels["deep"]
    if "cin" in params:
        products = sum(s[0] for s in sizes["cin"])  # H_{l-1} n of each layer
        assert found["cin"] == k * (kernels["cin"] + products)
    if "output" in params:
        assert found["output"] == kernels["output"]
    if "cross" in params:
        d = n * k
        assert found["cross"] == kernels["cross"] + 3 * d  # x_0 * (...) of three layers
    if "attention" in params:
        width, layers = 2 * 4, 3
        assert found["attention"] == n * kernels["attention"] + layers * 2 * n * n * width
    if "fwfm" in params:
        weights = params["fwfm"]
        assert found["pairs"] == weights["r"].size * (k + 1)
        linear = [weights[key].size for key in ("v", "field_weight") if key in weights]
        assert found.get("linear", 0) == sum(linear)
    assert count_params(config, SMALL) == sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "options", "pairs"),
    [
        ("fm", {}, 5 * 3 + 3 + 3),  # a square of each value, one of each sum, a half of each difference
        ("deepfm", {}, 5 * 3 + 3 + 3),
        ("nfm", {}, 5 * 3 + 3 + 3),
        ("nfm", {"nfm_pooling": "pairwise"}, 10 * 3),  # an inner product of 3 values for each of 10 pairs
        ("pnn", {}, 10 * 3),
        ("ffm", {}, 10 * 3),
        ("fmfm", {}, 10 * (3 * 3 + 3)),  # e_i M, then the inner product
        ("poly2", {}, 10),
        ("fwfm", {}, 10 * (3 + 1)),  # the inner product, times R_ij
        ("lr", {}, 0),
        ("widedeep", {}, 0),
    ],
)
def test_pairs_by_hand(name, options, pairs):
    """Five fields of three values make ten pairs."""
    assert multiply_adds(small(name, **options), SMALL).get("pairs", 0) == pairs


def test_papers_criteo_sizes():
    """DeepFwFM: the net is 98 % of it (the paper's case for pruning D); xDeepFM's CIN is far above both."""
    deep = multiply_adds(default_config(), CRITEO)
    assert deep == {"linear": 39 * 10 + 39, "pairs": 741 * 11, "deep": 390 * 400 + 400 * 400 * 2 + 400}
    cin = multiply_adds(override(default_config(), {"model.name": "xdeepfm"}), CRITEO)["cin"]
    assert cin == 10 * (39 * 39 * 101 + 50 * 39 * 101 + 50 * 39 * 51)
