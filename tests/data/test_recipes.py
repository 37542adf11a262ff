"""The recipes hold the paper's columns and options, and refuse options that make no sense."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deeplight_jax.data.recipes import AVAZU, CRITEO, RECIPES
from deeplight_jax.errors import DataError


def test_criteo_is_the_papers():
    assert len(CRITEO.columns) == 40
    assert CRITEO.columns[0] == CRITEO.label == "label"
    assert CRITEO.columns[1:14] == CRITEO.numeric_columns == tuple(f"I{i}" for i in range(1, 14))
    assert CRITEO.columns[14:] == CRITEO.categorical_columns == tuple(f"C{i}" for i in range(1, 27))
    assert (CRITEO.min_count, CRITEO.test_fraction, CRITEO.vocab_scope, CRITEO.numeric) == (
        8,
        0.1,
        "train",
        "value",
    )


def test_avazu_is_the_papers():
    header = (
        "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
        "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
    )
    assert ",".join(AVAZU.columns) == header
    assert AVAZU.label == "click"
    assert len(AVAZU.fields) == 23
    assert AVAZU.fields[0] == ("id", "categorical")
    assert {kind for _, kind in AVAZU.fields} == {"categorical"}
    assert (AVAZU.min_count, AVAZU.test_fraction, AVAZU.header) == (5, 0.2, True)


def test_numeric_fields_come_first_and_buckets_are_categorical():
    assert [k for _, k in CRITEO.fields] == ["numeric"] * 13 + ["categorical"] * 26
    bucketed = replace(CRITEO, numeric="bucket")
    assert [n for n, _ in bucketed.fields] == [n for n, _ in CRITEO.fields]
    assert {k for _, k in bucketed.fields} == {"categorical"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("columns", ("label",)),
        ("columns", ("label", "I1", "I1")),
        ("label", "click"),
        ("numeric_columns", ("I99",)),
        ("numeric_columns", ("label",)),
        ("delimiter", ";"),
        ("numeric", "log"),
        ("vocab_scope", "test"),
        ("min_count", 0),
        ("test_fraction", 1.0),
        ("valid_fraction", -0.1),
        ("test_fraction", float("nan")),
        ("split_seed", -1),
    ],
)
def test_an_option_out_of_range_is_named(option, value):
    with pytest.raises(DataError, match=f"recipe criteo: {option} = "):
        replace(CRITEO, **{option: value})


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_goes_into_a_manifest(recipe):
    assert RECIPES[recipe.name] is recipe
    stored = json.loads(json.dumps(recipe.to_json()))
    assert stored["columns"] == list(recipe.columns)
    assert stored["split_seed"] == recipe.split_seed
