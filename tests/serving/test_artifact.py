"""The file: what is written is read back, and nothing that was changed or cut is ever read."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from random_models import MIXED, config_of, random_params, random_rows

from deeplight_jax import serving
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.artifact import Artifact, load, save
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build


def artifact_of(name="deepfwfm", seed=0, **options):
    kept = {"dnn": 0.5, "embedding": 0.7, "field": 0.5}
    params = random_params(name, MIXED, seed, kept, **options)
    made = compact(config_of(name, **options).model, MIXED, params)
    return Artifact(
        made, {"model": {"name": name}, "note": "ü"}, {"c0": b"a\t3\nb\t2\n\xc3\xbc\t1\n", "c1": b""}
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, artifact_of())
    return path


def test_what_is_saved_is_loaded(file):
    saved, loaded = artifact_of(), load(file)
    assert (loaded.about, loaded.vocabularies) == (saved.about, saved.vocabularies)
    ids, values = random_rows(MIXED, 8, 1)
    logits = build(saved).logits(ids, values)
    np.testing.assert_array_equal(serving.load(file).logits(ids, values), logits)
    assert [p.name for p in file.parent.iterdir()] == [file.name]  # no temporary file stays


def test_other_users_may_read_it(file):
    assert file.stat().st_mode & 0o444 == 0o444


def test_saving_replaces_and_a_failure_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()
    save(file, artifact_of(seed=1))
    changed = file.read_bytes()
    assert changed != before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*model\.safetensors.*No space left"):
        save(file, artifact_of())
    assert file.read_bytes() == changed
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="nowhere"):
        save(tmp_path / "nowhere/model.safetensors", artifact_of())
    with pytest.raises(ArtifactError, match=r"no artifact .*deeplight export"):
        load(tmp_path / "missing.safetensors")


def test_every_flipped_bit_is_refused(file):
    """One random bit of every third byte of the header, and of every 41st behind it."""
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    places = [*range(0, header, 3), *range(header, len(whole), 41), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        if (loaded := loaded_or_none(file)) is not None:
            assert same(loaded, artifact_of()), place  # white space of the header may change


def loaded_or_none(file):
    try:
        return load(file)
    except ArtifactError:
        return None


def same(one, other):
    return one.about == other.about and all(
        np.array_equal(a, b) for a, b in zip(one.compact.layers[0].weights, other.compact.layers[0].weights,
                                             strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
def test_a_truncated_file_is_refused(file, kept):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))] if isinstance(kept, float) else whole[:kept])
    with pytest.raises(ArtifactError, match="damaged or no artifact"):
        load(file)


def test_more_bytes_than_the_header_says_are_refused(file):
    file.write_bytes(file.read_bytes() + b"\0" * 64)
    with pytest.raises(ArtifactError):
        load(file)


def rewritten(file: Path, change, sign=True):
    """The file with its header changed, signed again as one who knows the format would."""
    whole = file.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    description = json.loads(header["__metadata__"]["deeplight"])
    change(header, description)
    text = json.dumps(description)
    header["__metadata__"]["deeplight"] = text
    if sign:
        header["__metadata__"]["deeplight.sha256"] = hashlib.sha256(text.encode()).hexdigest()
    new = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + size :])


LIES = {
    "another format": (lambda h, d: d.update(format=2), "of format 2, this version .* reads format 1"),
    "an unknown kind": (
        lambda h, d: d.update(kind="tree"),
        "of kind 'tree', this version reads compact and jax",
    ),
    "a list for a kind": (lambda h, d: d.update(kind=[1]), r"of kind \[1\]"),
    "the other kind": (lambda h, d: d.update(kind="jax"), "no 'model'"),
    "a shape turned round": (
        lambda h, d: h["table"].update(shape=h["table"]["shape"][::-1]),
        "array table is damaged",
    ),
    "a size past the end": (lambda h, d: h["bias"].update(data_offsets=[0, 1 << 40]), "damaged"),
    "a negative size": (lambda h, d: h["bias"].update(data_offsets=[-4, 0]), "damaged"),
    "an array less": (lambda h, d: d["sha256"].pop("output"), "not those of its description"),
    "another field size": (lambda h, d: d["structure"]["schema"][2].update(size=400), "array table is"),
    "more layers": (lambda h, d: d["structure"].update(layers=9), "layer_2"),
    "layers of text": (lambda h, d: d["structure"].update(layers="many"), "not whole"),
    "a huge dim": (lambda h, d: d["structure"].update(dim=1 << 60), "it has|is float32|not fit|int32"),
    "no structure": (lambda h, d: d.pop("structure"), "structure"),
    "a list": (lambda h, d: d.update(structure=[1, 2]), "not whole"),
    "nothing about it": (lambda h, d: d.pop("about"), "no 'about'"),
    "a list of digests": (lambda h, d: d.update(sha256=[*d["sha256"]]), "no 'sha256'"),
    "endless layers": (lambda h, d: d["structure"].update(layers=float("inf")), "not whole"),
    "a field named twice": (
        lambda h, d: d["structure"]["schema"][1].update(name="x0"),
        "field names repeat",
    ),
}


def test_a_file_from_before_there_were_kinds_is_read(file):
    rewritten(file, lambda h, d: d.pop("kind"))
    assert same(load(file), artifact_of())


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(file, lie):
    change, named = LIES[lie]
    rewritten(file, change)
    with pytest.raises(ArtifactError, match=named):
        load(file)


def test_a_description_changed_without_its_digest_is_refused(file):
    rewritten(file, lambda h, d: d["about"].update(note="better"), sign=False)
    with pytest.raises(ArtifactError, match=r"description is damaged .*export the model again"):
        load(file)


def test_a_file_of_somebody_else_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="no description of a deeplight model"):
        load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("label\tI1\n")
    with pytest.raises(ArtifactError, match="damaged or no artifact"):
        load(tmp_path / "text.safetensors")
