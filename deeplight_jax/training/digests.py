"""Digests of a run's files and its checkpoints', and which steps are whole; knows neither JAX nor Orbax."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from deeplight_jax.errors import RunError
from deeplight_jax.files import write_atomically

_DIGESTS, MASKS_FILE = ".sha256.json", "masks.safetensors"
SEALS = "sha256.json"


def split_step(workdir: str | Path) -> tuple[Path, str]:
    """RUN and STEP of RUN@STEP; of RUN, whose path may have an @ of its own, no step: ""."""
    name, at, step = str(workdir).rpartition("@")
    if not at or "/" in step or os.path.isdir(workdir):
        return Path(workdir), ""
    return Path(name), step


def saved_steps(directory: Path) -> list[int]:
    """Steps with a whole checkpoint, ascending."""
    found = directory.glob(f"*{_DIGESTS}") if directory.is_dir() else []
    return sorted(int(name) for p in found if (name := p.name.removesuffix(_DIGESTS)).isdigit())


def verify(directory: Path, step: int, only: str | None = None) -> None:
    """Compare every file of a checkpoint, or one alone, with its digest.

    Raises:
      RunError: no such checkpoint, or a file of it is damaged, missing or new; the file is named.
    """
    file, target = digest_file(directory, step), directory / str(step)
    expected, found = expected_digests(directory, step), digests_of(target, only or "*")
    for name in [only] if only else sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            state = (
                "missing"
                if name not in found
                else "damaged"
                if name in expected
                else "not of this checkpoint"
            )
            raise RunError(
                f"{target / name} is {state}; delete {target} and {file} to go on from an earlier one"
            )


def seal(directory: Path, files: Mapping[str, str]) -> None:
    """Note the digests of a run's files, beside those noted before: of texts that are about to be written.

    Raises:
      OSError: the disk refuses it.
    """
    found = _seals(directory) | {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()
    }
    write_atomically(directory / SEALS, json.dumps(found, indent=1) + "\n", alone=True)


def read_sealed(path: Path) -> str:
    """A run's file, compared with its digest; one without is of a run from before there were digests.

    Raises:
      RunError: it is damaged.
      OSError: it cannot be read.
    """
    content, expected = path.read_bytes(), _seals(path.parent).get(path.name)
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise RunError(f"{path} is damaged (its SHA-256 differs from the one in {SEALS}); "
                       f"if you changed it yourself, delete {path.parent / SEALS}")  # fmt: skip
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged ({error})") from error


def _seals(directory: Path) -> dict[str, str]:
    path = directory / SEALS
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it to do without") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged; delete it to do without")
    return found


def digest_file(directory: Path, step: int) -> Path:
    return directory / f"{step}{_DIGESTS}"


def expected_digests(directory: Path, step: int) -> dict[str, str]:
    file = digest_file(directory, step)
    if not file.is_file():
        known = ", ".join(map(str, saved_steps(directory))) or "none"
        raise RunError(f"{directory} holds no checkpoint of step {step}; it has {known}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{file} is damaged ({error}); delete that checkpoint to go on from an earlier one"
        ) from error


def digests_of(target: Path, pattern: str = "*") -> dict[str, str]:
    digests: dict[str, str] = {}
    for path in sorted(p for p in target.rglob(pattern) if p.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(target).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
