"""Prepared data on disk: whole or not at all, and damage is named."""

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest

from deeplight_jax.data.identity import difference
from deeplight_jax.data.prepared import (
    create_split,
    open_prepared,
    read_vocabulary,
    staging,
    write_manifest,
)
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import DataError

SCHEMA = Schema((Field("x", "numeric", 1), Field("a", "categorical", 3)))


@pytest.fixture
def prepared(tmp_path):
    out = tmp_path / "data"
    with staging(out) as directory:
        split = create_split(directory, "train", SCHEMA, 5)
        split.ids[:] = [[0], [1], [2], [1], [0]]
        split.values[:] = 0.5
        split.label[:] = [0, 1, 0, 1, 0]
        create_split(directory, "test", SCHEMA, 0)
        (directory / "vocab").mkdir()
        (directory / "vocab" / "a.txt").write_text("p\t3\n\t2\n")
        write_manifest(directory, SCHEMA, {"train": 5, "test": 0}, {"recipe": "made"})
    return out


def test_round_trip(prepared):
    data = open_prepared(prepared)
    assert data.schema == SCHEMA
    assert data.manifest["recipe"] == "made"
    assert data.split("train").rows == 5
    np.testing.assert_array_equal(data.split("train").label, [0, 1, 0, 1, 0])
    assert isinstance(data.split("train").ids, np.memmap)
    assert read_vocabulary(prepared, "a") == ["p", ""]
    with pytest.raises(DataError, match="no rows in split 'test'; it has train"):
        data.split("test")


def test_data_that_nobody_named_is_asked_for():
    with pytest.raises(DataError, match=r"no prepared data is named: --config\.data\.dir=DIR"):
        open_prepared("")


def test_other_fields_are_told_from_other_sizes():
    schema = [{"name": "C1", "kind": "categorical", "size": 4}]
    theirs = {"schema": [{"name": "price", "kind": "numeric", "size": 1}], "vocabulary": {}}
    ours = {"schema": schema, "vocabulary": {}}
    assert difference(theirs, ours, "the run's") == "its numeric field price is the run's categorical C1"
    theirs["schema"] = [{**schema[0], "size": 5}]
    assert difference(theirs, ours, "the run's") == "field C1 has 5 rows, the run's C1 has 4"


def test_nothing_half_made_remains(tmp_path):
    def fail():
        with staging(tmp_path / "data") as directory:
            (directory / "x").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_overwritten(prepared):
    with pytest.raises(DataError, match="exists and is not empty"), staging(prepared):
        raise AssertionError
    assert open_prepared(prepared).split("train").rows == 5


@pytest.mark.parametrize("kind", ["here", "link", "mount"])
def test_what_cannot_be_replaced_is_refused_before_anything_is_made(tmp_path, monkeypatch, kind):
    (tmp_path / "real").mkdir()
    directory = tmp_path / "real"
    if kind == "here":
        monkeypatch.chdir(directory)
        directory = Path()
    elif kind == "link":
        directory = tmp_path / "link"
        directory.symlink_to(tmp_path / "real")
    else:
        monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "real")
    with pytest.raises(DataError, match="current directory, a link or a mount point"), staging(directory):
        raise AssertionError
    assert [p.name for p in tmp_path.rglob("*") if p.name not in ("real", "link")] == []


@pytest.mark.parametrize("name", ["train.ids.npy", "train.values.npy", "train.label.npy", "vocab/a.txt"])
def test_a_flipped_bit_or_a_missing_file_is_named(prepared, name):
    path = prepared / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        open_prepared(prepared)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name} is missing"):
        open_prepared(prepared)


def test_a_damaged_manifest_is_named(prepared, tmp_path):
    path = prepared / "manifest.json"
    text = path.read_text()
    for damaged, message in [
        (text[:-40], "is damaged"),
        (text.replace('"size": 3', '"size": 4'), "content hash"),
        (json.dumps({**json.loads(text), "format": 99}), "not of format"),
        ("[]", "not of format"),
    ]:
        path.write_text(damaged)
        with pytest.raises(DataError, match=message):
            open_prepared(prepared)
    with pytest.raises(DataError, match=r"no manifest.json; run `deeplight prepare` first"):
        open_prepared(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "train.ids.npy"])
def test_a_file_that_may_not_be_read_is_named(prepared, monkeypatch, name):
    opened = Path.open

    def forbidden(path, *arguments, **options):
        if path.name == name:
            raise PermissionError(13, os.strerror(13))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(DataError, match=rf"{name} cannot be read: Permission denied"):
        open_prepared(prepared)


def test_unverified_arrays_still_have_to_fit(prepared):
    np.save(prepared / "train.ids.npy", np.zeros((4, 1), np.int32))
    with pytest.raises(DataError, match=r"holds int32\[4, 1\], the manifest says int32\[5, 1\]"):
        open_prepared(prepared, verify=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), "at least one field"),
        ((Field("a", "categorical", 2), Field("a", "categorical", 2)), "names repeat: a"),
        ((Field("a", "categorical", 2), Field("x", "numeric", 1)), "numeric fields must come before"),
        ((Field("x", "numeric", 2),), "cannot have 2 table rows"),
        ((Field("a", "categorical", 0),), "cannot have 0 table rows"),
    ],
)
def test_schemas_are_checked(fields, message):
    with pytest.raises(DataError, match=message):
        Schema(fields)


def test_offsets_and_pairs():
    schema = Schema((*SCHEMA.fields, Field("b", "categorical", 4)))
    assert schema.offsets.tolist() == [1, 4]
    assert schema.num_rows == 8
    assert schema.pairs == (("x", "a"), ("x", "b"), ("a", "b"))
    assert Schema.from_json(schema.to_json()) == schema
    assert Schema((Field("x", "numeric", 1),)).offsets.tolist() == []


def test_what_a_killed_program_left_is_removed_and_a_living_ones_stays(tmp_path):
    """A lock goes with its process; a neighbour's directory of a like name is none of ours."""
    names = [".data.tmp-1-dead", ".data.tmp-2-lives", ".data2.tmp-3-dead", ".making.data.tmp-4-new"]
    for name in names:
        (tmp_path / name / "vocab").mkdir(parents=True)
    lives = os.open(tmp_path / names[1], os.O_RDONLY)
    fcntl.flock(lives, fcntl.LOCK_EX)
    with staging(tmp_path / "data") as own, staging(tmp_path / "data"):
        assert own.is_dir()  # it is held
    os.close(lives)
    assert sorted(p.name for p in tmp_path.iterdir()) == [*sorted(names[1:]), "data"]
