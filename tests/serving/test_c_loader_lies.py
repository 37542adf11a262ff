"""What a well-signed artifact may still lie about: dl_open refuses it and names it, as Python does."""

from dataclasses import replace

import numpy as np
import pytest
from c_library import DL_DAMAGED, DL_FORMAT, Refused
from small_artifacts import small
from test_artifact import rewritten

from deeplight_jax import serving
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.artifact import Artifact, save


@pytest.fixture
def file(tmp_path):
    save(tmp_path / "model.safetensors", small())
    return tmp_path / "model.safetensors"


def structure(**change):
    return lambda h, d: d["structure"].update(change)


LIES = {
    "another format": (lambda h, d: d.update(format=2), "it is of format 2, this library reads format 1"),
    "another kind": (lambda h, d: d.update(kind="jax"), "it is of kind jax, a model without a compact"),
    "a format of text": (lambda h, d: d.update(format="1"), "no 'format'"),
    "a shape turned round": (
        lambda h, d: h["table"].update(shape=h["table"]["shape"][::-1]),
        "array table is damaged",
    ),
    "a size past the end": (lambda h, d: h["bias"].update(data_offsets=[0, 1 << 40]), "bias does not fit"),
    "a huge shape": (lambda h, d: h["bias"].update(shape=[1 << 40, 1 << 40]), "array bias is too large"),
    "a negative size": (lambda h, d: h["bias"].update(data_offsets=[-4, 0]), "bias is no row of"),
    "a fraction of a byte": (lambda h, d: h["bias"].update(data_offsets=[0, 4.5]), "bias is no row of"),
    "an overlap": (
        lambda h, d: h["output"].update(data_offsets=h["bias"]["data_offsets"], shape=[1]),
        "overlaps another",
    ),
    "a gap": (lambda h, d: h.pop("bias"), "lies behind a gap"),
    "an unknown dtype": (lambda h, d: h["bias"].update(dtype="F24"), "bias is of the unknown dtype F24"),
    "no dtype": (lambda h, d: h["bias"].pop("dtype"), "dtype, shape and data_offsets of array bias"),
    "a note of numbers": (lambda h, d: h["__metadata__"].update(note=[1]), "metadata is no object of texts"),
    "an array less": (lambda h, d: d["sha256"].pop("output"), r"not those of its description \(output\)"),
    "an array more": (lambda h, d: d["sha256"].update(more="00"), "not those of its description"),
    "no digests": (lambda h, d: d.pop("sha256"), "no 'sha256'"),
    "another field size": (
        lambda h, d: d["structure"]["schema"][2].update(size=400),
        r"array table is F32\[14, 16\], not F32\[410, 16\]",
    ),
    "more layers": (structure(layers=9), "layer_2"),
    "layers of text": (structure(layers="many"), "'layers' is of another type"),
    "minus one layer": (structure(layers=-1), "its layers is out of range"),
    "a huge dim": (structure(dim=1 << 60), "its dim is out of range"),
    "a large dim": (structure(dim=(1 << 31) - 1), "array table is"),
    "a net of pairs": (structure(net_input="pairs"), "its net_input is out of range"),
    "a net of nothing": (structure(net_input="none"), "points outside itself"),
    "no structure": (lambda h, d: d.pop("structure"), "no 'structure'"),
    "a list": (lambda h, d: d.update(structure=[1, 2]), "no 'schema'"),
    "no field": (structure(schema=[]), "needs at least one field"),
    "a field named twice": (
        lambda h, d: d["structure"]["schema"][1].update(name="x0"),
        "field names repeat: x0",
    ),
    "a field without rows": (lambda h, d: d["structure"]["schema"][2].update(size=0), "cannot have 0 table"),
    "fields in disorder": (lambda h, d: d["structure"]["schema"].reverse(), "must come before"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_as_python_refuses_it(library, file, lie):
    change, named = LIES[lie]
    rewritten(file, change)
    with pytest.raises(Refused, match=named) as caught:
        library.open(file)
    assert str(file) in str(caught.value)
    assert caught.value.code == (DL_FORMAT if lie in ("another format", "another kind") else DL_DAMAGED)
    if lie != "another kind":
        with pytest.raises(ArtifactError):
            serving.load(file)


def test_a_description_changed_without_its_digest_is_refused(library, file):
    rewritten(file, lambda h, d: d["about"].update(note="better"), sign=False)
    with pytest.raises(
        Refused, match=r"description is damaged \(its SHA-256 differs\); export the model again"
    ):
        library.open(file)


def with_csr(matrix, **change):
    return matrix._replace(
        **{name: np.asarray(value(getattr(matrix, name))) for name, value in change.items()}
    )


def with_layer(found, **change):
    weights = with_csr(found.layers[0].weights, **change)
    return replace(found, layers=(found.layers[0]._replace(weights=weights), *found.layers[1:]))


WRONG = {
    "a NaN in the table": (
        lambda c: replace(c, table=np.where(np.arange(16) == 15, np.nan, c.table).astype(np.float32)),
        "table holds a value that is not finite",
    ),
    "an infinite bias": (lambda c: replace(c, bias=np.float32([np.inf])), "bias holds a value"),
    "a column outside": (lambda c: with_layer(c, indices=lambda x: x + 1000), "layer_0 points outside"),
    "a column before": (lambda c: with_layer(c, indices=lambda x: x - 1000), "layer_0 points outside"),
    "rows that go back": (lambda c: with_layer(c, indptr=lambda x: x[::-1].copy()), "layer_0 points outside"),
    "too few rows": (
        lambda c: replace(c, quadratic=with_csr(c.quadratic, indptr=lambda x: x[:-1])),
        r"quadratic.indptr is I32\[11\], not I32\[12\]",
    ),
    "wide columns": (
        lambda c: with_layer(c, indices=lambda x: x.astype(np.int64)),
        "layer_0.indices is I64",
    ),
    "fewer outputs": (lambda c: replace(c, output=c.output[:-1]), r"output is F32\[\d\], not F32\[\d\]"),
    "unsigned products": (
        lambda c: replace(c, products=np.uint32([[0, 1]])),
        "products is U32",
    ),
    "products of no field": (lambda c: replace(c, products=np.int32([[0, 5]])), "fields that are not"),
    "products in a row": (lambda c: replace(c, products=np.int32([0, 1])), r"is I32\[2\], not I32\[2, 2\]"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_arrays_that_do_not_fit_are_refused_though_their_digests_are_right(library, tmp_path, wrong):
    change, named = WRONG[wrong]
    found, path = small(), tmp_path / "model.safetensors"
    save(path, Artifact(change(found.compact), found.about, found.vocabularies))
    with pytest.raises(Refused, match=named) as caught:
        library.open(path)
    assert (str(path) in str(caught.value), caught.value.code) == (True, DL_DAMAGED)


def test_a_name_too_long_for_an_error_is_cut_between_characters(library, file):
    for pad in ("", "x", "xx"):
        name = pad + "ü€" * 5000

        def change(header, description, name=name):
            header[name] = header.pop("bias") | {"dtype": "F24"}

        rewritten(file, change)
        with pytest.raises(
            Refused, match=r"its array x*(ü€)+ü?\.\.\. is of the unknown dtype F24; export the"
        ):
            library.open(file)
        save(file, small())
