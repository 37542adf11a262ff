"""dl_open reads a table in each of its formats, and refuses one that lies."""

from dataclasses import replace

import numpy as np
import pytest
from c_library import DL_DAMAGED, DL_FORMAT, Refused
from levels import NATIVE_LEVELS
from random_models import CASES, SCHEMAS, random_rows
from small_artifacts import small, stored
from test_artifact import rewritten

from deeplight_jax import serving
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import native
from deeplight_jax.serving.artifact import save
from deeplight_jax.serving.structure import Compact
from deeplight_jax.serving.tables import FORMATS

needs_native = pytest.mark.skipif(not native.available(), reason="the native engine was not built")


@needs_native
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("name", "options"), CASES[::3], ids=str)
def test_each_format_scores_as_python_does_bit_for_bit(library, tmp_path, name, options, form):
    path = tmp_path / "model.safetensors"
    for schema in SCHEMAS.values():
        save(path, stored(small(name, schema, **options), form))
        for level in NATIVE_LEVELS:
            rows = random_rows(schema, 70, 1)
            np.testing.assert_array_equal(
                library.open(path, level).logits(*rows), serving.load(path, level).logits(*rows)
            )


def table(change):
    def changed(found):
        array = found.table.copy()
        change(array)
        return replace(found, table=array)

    return changed


def set_at(place, value):
    return table(lambda array: array.__setitem__(place, value))


WRONG = {
    "a NaN of bf16": ("bf16", set_at((3, 2), 0x7FC0), "table holds a value that is not finite"),
    "a NaN that pads a row of bf16": (
        "bf16",
        set_at((3, 15), 0x7FC0),
        "table holds a value that is not finite",
    ),
    "rows of bf16 too short": ("bf16", lambda c: replace(c, table=c.table[:, :8].copy()), "table is U16"),
    "an infinite scale": ("int8", set_at((3, slice(12, 14)), (0x80, 0x7F)), "table holds a value"),
    "a scale too large": ("int8", set_at((3, slice(12, 14)), (0x7F, 0x7F)), "table holds a value"),
    "an infinite linear value": ("int8", set_at((3, slice(14, 16)), (0x80, 0xFF)), "table holds a value"),
    "a bit too many": ("packed", table(lambda a: a.__setitem__(0, a[0] ^ 1)), "points outside itself"),
    "a bit of no value": (
        "packed",
        table(lambda a: a.__setitem__(0, a[0] | 1 << 31)),
        "points outside itself",
    ),
    "no word behind": ("packed", lambda c: replace(c, table=c.table[:-1]), "points outside itself"),
    "a place too large": (
        "packed",
        lambda c: replace(c, table_index=c.table_index + np.uint32([0] * 5 + [9] + [0] * 9)),
        "points outside itself",
    ),
    "places less": ("packed", lambda c: replace(c, table_index=c.table_index[:-1]), "table_index is U32"),
    "no places": ("packed", lambda c: replace(c, table_index=np.zeros(0, np.uint32)), "no array table_index"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_table_that_does_not_fit_its_format_is_refused(library, tmp_path, wrong, monkeypatch):
    form, change, named = WRONG[wrong]
    path = tmp_path / "model.safetensors"
    found = stored(small(), form)
    monkeypatch.setattr(Compact, "counts", lambda _: {})  # which reads the table
    save(path, found._replace(model=change(found.compact)))
    with pytest.raises(Refused, match=named) as caught:
        library.open(path)
    assert (caught.value.code, str(path) in str(caught.value)) == (DL_DAMAGED, True)
    with pytest.raises(ArtifactError), np.errstate(over="ignore"):
        serving.load(path)


def test_a_format_that_it_does_not_know_is_named(library, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, small())
    rewritten(path, lambda header, description: description["structure"].update(table="fp4"))
    with pytest.raises(Refused, match="its table is of format fp4; known: f32, bf16, int8, packed") as caught:
        library.open(path)
    assert caught.value.code == DL_FORMAT
