"""A prepared data set on disk: `manifest.json`, memory-mapped arrays and vocabularies.

    DIR/manifest.json       schema, row counts, rejected rows, recipe, SHA-256 of every file, content hash
    DIR/SPLIT.ids.npy       i32[row, categorical]
    DIR/SPLIT.values.npy    f32[row, numeric]
    DIR/SPLIT.label.npy     u8[row], 0 or 1
    DIR/vocab/FIELD.txt     value TAB count, one line an id, starting at id 1 (id 0 is the unknown row);
                            of a hashed field one line that says how it is hashed

A directory is written under a temporary name beside its final one and renamed when whole.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.data.hashing import parse_hashed
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import DataError

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Split:
    """Rows of one split: ids i32[row, categorical], values f32[row, numeric], label u8[row]."""

    ids: np.ndarray
    values: np.ndarray
    label: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Prepared:
    """An opened data set; `content_hash` names its schema, splits and every byte of its arrays."""

    directory: Path
    schema: Schema
    splits: Mapping[str, Split]
    manifest: Mapping[str, Any]

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    def split(self, name: str) -> Split:
        """The named split.

        Raises:
          DataError: the data set has no such split, or it is empty.
        """
        if name not in self.splits or self.splits[name].rows == 0:
            filled = [n for n, s in self.splits.items() if s.rows] or ["none"]
            raise DataError(f"{self.directory}: no rows in split '{name}'; it has {', '.join(filled)}")
        return self.splits[name]


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A temporary sibling of `directory`, renamed to it on success and removed on any failure.

    What a killed program left there is removed first. Each holds a lock on its own sibling, which the kernel
    drops when it ends, however it ends; where a file system knows no locks, nothing is removed.

    Raises:
      DataError: `directory` exists already and is not empty or cannot be replaced, its parent cannot be
        written, or writing into it fails (an OSError of the body).
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f"{directory} exists and is not empty; name another --out or remove it first")
    if not directory.name or directory.is_symlink() or directory.is_mount():
        raise DataError(
            f"{directory} is the current directory, a link or a mount point, which no new directory can "
            "replace; name a directory in it"
        )
    _remove_abandoned(directory)
    temporary = directory.with_name(f".{directory.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        lock = _make_locked(temporary)
    except OSError as error:
        raise DataError(f"cannot write beside {directory}: {error.strerror}") from error
    try:
        yield temporary
        if directory.exists():
            directory.rmdir()
        temporary.rename(directory)
    except OSError as error:
        raise DataError(f"cannot write {directory}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _make_locked(temporary: Path) -> int:
    """Make a directory that has its name only once it is locked; its lock, to be closed."""
    unlocked = temporary.with_name(f".making{temporary.name}")
    unlocked.mkdir(parents=True)
    lock = os.open(unlocked, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    unlocked.rename(temporary)
    return lock


def _remove_abandoned(directory: Path) -> None:
    """Drop the temporary siblings whose programs have ended."""
    for sibling in directory.parent.glob(f".{glob.escape(directory.name)}.tmp-*"):
        with suppress(OSError):
            lock = os.open(sibling, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(sibling)
            finally:
                os.close(lock)


def create_split(directory: Path, name: str, schema: Schema, rows: int, *, reserve: bool = False) -> Split:
    """Memory-mapped arrays of `rows` rows, to be filled in place.

    Args:
      directory: of the data set.
      name: of the split.
      schema: its fields.
      rows: its length.
      reserve: have the disk set their room aside. Who fills them through the map needs it: a page that finds
        no room ends the program (SIGBUS).

    Raises:
      OSError: the disk refuses it.
    """

    def array(part: str, dtype: type, *shape: int) -> np.ndarray:
        path = directory / f"{name}.{part}.npy"
        if 0 in shape:  # an empty array cannot be mapped
            np.save(path, np.empty(shape, dtype))
            return np.empty(shape, dtype)
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if reserve:
            _reserve(path)
        return mapped

    return Split(
        ids=array("ids", np.int32, rows, len(schema.categorical)),
        values=array("values", np.float32, rows, len(schema.numeric)),
        label=array("label", np.uint8, rows),
    )


def _reserve(path: Path) -> None:
    """Have the disk set aside a file's whole size, where the system can (glibc may write to each block)."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def write_manifest(
    directory: Path, schema: Schema, rows: Mapping[str, int], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Digest every file of `directory` and write its manifest, which `about` (recipe, rejects, ...) joins."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST)
    digests = {p.relative_to(directory).as_posix(): _sha256(p) for p in files}
    identity = {"format": FORMAT, "schema": schema.to_json(), "rows": dict(rows), "sha256": digests}
    manifest = {**identity, "content_hash": _content_hash(identity), **about}
    manifest["manifest_hash"] = _manifest_hash(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def open_prepared(directory: str | Path, *, verify: bool = True) -> Prepared:
    """Open a prepared data set for reading.

    Args:
      directory: what `deeplight prepare` wrote.
      verify: compare the SHA-256 of every file with the manifest (about 1 s per GB).

    Raises:
      DataError: the directory, its manifest or an array is missing, damaged or of another format.
    """
    if not str(directory):
        raise DataError("no prepared data is named: --config.data.dir=DIR, what `deeplight prepare` wrote")
    directory = Path(directory)
    manifest = _read_manifest(directory)
    try:
        schema = Schema.from_json(manifest["schema"])
        digests, rows = dict(manifest["sha256"]), dict(manifest["rows"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory / MANIFEST} is damaged ({error}); prepare the data again") from error
    if manifest.get("content_hash") != _content_hash(manifest):
        raise DataError(
            f"{directory / MANIFEST} is damaged (its content hash does not fit); prepare the data again"
        )
    if "manifest_hash" in manifest and manifest["manifest_hash"] != _manifest_hash(manifest):
        raise DataError(
            f"{directory / MANIFEST} is damaged (its own hash does not fit); prepare the data again"
        )
    for name, digest in digests.items():
        path = directory / name
        if not path.is_file():
            raise DataError(f"{path} is missing; prepare the data again")
        if verify and _sha256(path) != digest:
            raise DataError(
                f"{path} is damaged (its SHA-256 differs from the manifest's); prepare the data again"
            )
    splits = {name: _open_split(directory, name, schema, int(count)) for name, count in rows.items()}
    return Prepared(directory, schema, splits, manifest)


def read_vocabulary(directory: Path, field: str) -> list[str]:
    """Values of a categorical field in id order, starting at id 1.

    Raises:
      DataError: the field is hashed, so that its rows have no values.
    """
    data = (Path(directory) / "vocab" / f"{field}.txt").read_bytes()
    if parse_hashed(data):
        raise DataError(f"{directory}: field {field} is hashed and has no vocabulary")
    text = data.decode("utf-8")
    return [line.rpartition("\t")[0] for line in text.split("\n")[:-1]]


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{directory} is not a prepared data set: no {MANIFEST}; run `deeplight prepare` first"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); prepare the data again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not of format {FORMAT}; prepare the data again with this version")
    return manifest


def _open_split(directory: Path, name: str, schema: Schema, rows: int) -> Split:
    def array(part: str, dtype: type, *shape: int) -> np.ndarray:
        path = directory / f"{name}.{part}.npy"
        try:
            found = np.load(path, mmap_mode=None if 0 in shape else "r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
        if found.dtype != dtype or found.shape != shape:
            raise DataError(
                f"{path} holds {found.dtype}{list(found.shape)}, the manifest says "
                f"{np.dtype(dtype)}{list(shape)}; prepare the data again"
            )
        return found

    return Split(
        ids=array("ids", np.int32, rows, len(schema.categorical)),
        values=array("values", np.float32, rows, len(schema.numeric)),
        label=array("label", np.uint8, rows),
    )


def _content_hash(manifest: Mapping[str, Any]) -> str:
    identity = {key: manifest[key] for key in ("format", "schema", "rows", "sha256")}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all that a manifest says, recipe and counts included."""
    told = json.loads(json.dumps({key: value for key, value in manifest.items() if key != "manifest_hash"}))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
