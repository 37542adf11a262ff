"""A served model as one safetensors file: arrays, vocabularies, and a description with a digest of each.

safetensors does not notice a flipped bit, so the description holds the SHA-256 of every array, and its own
stands beside it. Nothing in the file is ever run as code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from deeplight_jax.errors import ArtifactError
from deeplight_jax.files import replacing
from deeplight_jax.serving import structure, whole
from deeplight_jax.serving.structure import Compact
from deeplight_jax.serving.whole import Whole

FORMAT = 1
_KEY, _DIGEST = "deeplight", "deeplight.sha256"  # of the file's metadata
_VOCABULARY = "vocab."  # in front of a field's name: its vocabulary file, u8[byte]
_FORMS: dict[str, ModuleType] = {"compact": structure, "jax": whole}  # by the description's kind


class Artifact(NamedTuple):
    """What a file holds.

    Attributes:
      model: the compact structure, or all parameters where the model has none; checked.
      about: model, sparsity, counts, data identity, certificate and versions, as `save` was given them.
      vocabularies: vocabulary files by categorical field, `value TAB count` lines in id order from 1 on; none
        where the training data had none.
    """

    model: Compact | Whole
    about: Mapping[str, Any]
    vocabularies: Mapping[str, bytes]

    @property
    def compact(self) -> Compact:
        """The compact structure.

        Raises:
          ArtifactError: the model has none.
        """
        return compact_of(self.model)


def compact_of(model: Compact | Whole) -> Compact:
    """The compact structure that a model is.

    Raises:
      ArtifactError: it is served by JAX.
    """
    if isinstance(model, Whole):
        raise ArtifactError(f"model {model.model.get('name')} has no compact form; only JAX serves it")
    return model


def reread(model: Compact | Whole) -> Compact | Whole:
    """A model as it will be read back from a file.

    Raises:
      ArtifactError: it would not be: a part does not fit the others or is not finite.
    """
    form = _FORMS[_kind(model)]
    return form.from_arrays(form.settings(model), form.to_arrays(model))


def check_place(path: str | Path) -> None:
    """Before minutes are spent on a certificate: whether a file could be written there.

    Raises:
      ArtifactError: the path is a directory, or its parent is none.
    """
    path = Path(path)
    if path.is_dir():
        raise ArtifactError(f"{path} is a directory; name a file, such as {path / 'model.safetensors'}")
    if not path.parent.is_dir():
        raise ArtifactError(f"cannot write {path} (no directory {path.parent}); name another --out")


def save(path: str | Path, artifact: Artifact) -> None:
    """Write a file whole or not at all.

    Raises:
      ArtifactError: it cannot be written there.
    """
    path = Path(path)
    kind = _kind(artifact.model)
    form = _FORMS[kind]
    arrays = {name: np.asarray(a, order="C") for name, a in form.to_arrays(artifact.model).items()}
    for field, data in artifact.vocabularies.items():
        arrays[_VOCABULARY + field] = np.frombuffer(data, np.uint8)
    description = {
        "format": FORMAT,
        "kind": kind,
        "structure": form.settings(artifact.model),
        "counts": artifact.model.counts(),
        "sha256": {name: _sha256(array) for name, array in arrays.items()},
        "about": artifact.about,
    }
    text = json.dumps(description, allow_nan=False)
    metadata = {_KEY: text, _DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    try:
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)  # for its owner alone, and servers have users of their own
            temporary.chmod(0o644)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot write {path} ({error}); name another --out") from error


def load(path: str | Path) -> Artifact:
    """Read a file and check all of it.

    Raises:
      ArtifactError: it is missing, truncated, of another format, an array differs from its digest, or the
        description does not fit the arrays.

    Cost: a read and a SHA-256 of the whole file, about 1 s a GB.
    """
    path = Path(path)
    if path.is_dir():
        raise ArtifactError(f"{path} is a directory; name a file that `deeplight export` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            description = _description(metadata)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        _verify(description, arrays)
        found = _FORMS[description["kind"]].from_arrays(
            description["structure"], {n: a for n, a in arrays.items() if not n.startswith(_VOCABULARY)}
        )
    except FileNotFoundError as error:
        raise ArtifactError(f"no artifact {path}; `deeplight export` writes one") from error
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; export the model again") from error
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{path} is damaged or no artifact of ours ({error}); export the model again"
        ) from error
    vocabularies = {
        name.removeprefix(_VOCABULARY): array.tobytes()
        for name, array in arrays.items()
        if name.startswith(_VOCABULARY)
    }
    return Artifact(found, description["about"], vocabularies)


def _kind(model: Compact | Whole) -> str:
    return "jax" if isinstance(model, Whole) else "compact"


def _description(metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ArtifactError("it holds no description of a deeplight model")
    if hashlib.sha256(metadata[_KEY].encode()).hexdigest() != metadata.get(_DIGEST):
        raise ArtifactError("its description is damaged (its SHA-256 differs)")
    description = json.loads(metadata[_KEY])
    if description["format"] != FORMAT:
        raise ArtifactError(
            f"it is of format {description['format']}, this version of deeplight_jax reads format {FORMAT}"
        )
    kind = description.setdefault("kind", "compact")  # files of before there were others
    if not isinstance(kind, str) or kind not in _FORMS:
        raise ArtifactError(f"it is of kind {kind!r}, this version reads {' and '.join(_FORMS)}")
    for part in ("structure", "sha256", "about"):
        if not isinstance(description.get(part), dict):
            raise ArtifactError(f"its description is not whole (no '{part}')")
    return description


def _verify(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    digests = description["sha256"]
    if odd := sorted(digests.keys() ^ arrays.keys()):
        raise ArtifactError(f"its arrays are not those of its description ({', '.join(odd[:3])})")
    for name, array in arrays.items():
        if _sha256(array) != digests[name]:
            raise ArtifactError(f"its array {name} is damaged (its SHA-256 differs)")


def _sha256(array: np.ndarray) -> str:
    """Of dtype, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{list(array.shape)}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()
