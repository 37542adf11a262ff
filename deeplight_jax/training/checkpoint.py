"""Checkpoints: Orbax writes and reads them, a SHA-256 of every file tells a whole one from a damaged one.

    CHECKPOINTS/STEP/...                  Orbax: `state` and `about` (JSON)
    CHECKPOINTS/STEP/masks.safetensors    the state's masks once more, a bit a weight (see sparsity.maskfile)
    CHECKPOINTS/STEP.sha256.json          {file: digest}, written last: a step without it is unfinished

Orbax notices neither a flipped bit nor another shape, so digests are compared before every read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.sparsity.components import Masks
from deeplight_jax.sparsity.maskfile import read_masks, write_masks
from deeplight_jax.training.state import TrainState, after_churn, before_churn

_DIGESTS, _MASKS = ".sha256.json", "masks.safetensors"


def saved_steps(directory: Path) -> list[int]:
    """Steps with a whole checkpoint, ascending."""
    found = directory.glob(f"*{_DIGESTS}") if directory.is_dir() else []
    return sorted(int(name) for p in found if (name := p.name.removesuffix(_DIGESTS)).isdigit())


def save(directory: Path, state: TrainState, about: Mapping[str, Any]) -> None:
    """Write a checkpoint of `state.step`; it counts only once its digests are written.

    Args:
      directory: holds one run's checkpoints.
      state: what to save.
      about: JSON-able facts to save with it.

    Raises:
      RunError: the disk refuses it; earlier checkpoints stay as they are.
    """
    step = int(state.step)
    target = (directory / str(step)).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # what an interrupted save left
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            arguments = ocp.args.Composite(
                state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(dict(about))
            )
            checkpointer.save(target, arguments)
        write_masks(target / _MASKS, state.masks)
        write_atomically(_digest_file(directory, step), json.dumps(_digests(target), indent=1) + "\n")
    except (OSError, MaskError) as error:
        raise RunError(
            f"cannot save {target} ({error}); free disk space or name another --workdir"
        ) from error


def restore(directory: Path, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Read back a checkpoint after comparing every file with its digest.

    Args:
      directory: holds one run's checkpoints.
      step: one of `saved_steps`.
      like: `jax.ShapeDtypeStruct` leaves in the state's structure.

    Raises:
      RunError: no such checkpoint, a damaged or missing file (named), or another structure.
    """
    target = (directory / str(step)).absolute()
    verify(directory, step)
    try:
        return _read_state(target, like)
    except (ValueError, KeyError, OSError) as error:
        try:
            state, about = _read_state(target, before_churn(like))
        except (ValueError, KeyError, OSError):
            raise RunError(f"{target} does not fit this run's model ({error})") from error
        return after_churn(state, like), about


def restore_masks(directory: Path, step: int) -> Masks | None:
    """The masks of a checkpoint alone, or None if it is from before checkpoints had a file of them.

    Raises:
      RunError: no such checkpoint, or its file of masks is damaged or missing.

    Cost:
      Reads and compares that one file: a bit a weight.
    """
    if _MASKS not in _expected(directory, step):
        return None
    verify(directory, step, only=_MASKS)
    try:
        return read_masks(directory / str(step) / _MASKS)[0]
    except MaskError as error:
        raise RunError(str(error)) from error


def verify(directory: Path, step: int, only: str | None = None) -> None:
    """Compare every file of a checkpoint, or one alone, with its digest.

    Raises:
      RunError: no such checkpoint, or a file of it is damaged, missing or new; the file is named.
    """
    file, target = _digest_file(directory, step), directory / str(step)
    expected, found = _expected(directory, step), _digests(target, only or "*")
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


def prune(directory: Path, keep: Collection[int]) -> None:
    """Delete the checkpoints of all other steps, whole and unfinished ones."""
    for step in saved_steps(directory):
        if step not in keep:
            _digest_file(directory, step).unlink()
    names = {str(step) for step in keep}
    for path in directory.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by new text; a reader sees the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_state(target: Path, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore())
        found = checkpointer.restore(target, arguments)
    return found["state"], found["about"]


def _digest_file(directory: Path, step: int) -> Path:
    return directory / f"{step}{_DIGESTS}"


def _expected(directory: Path, step: int) -> dict[str, str]:
    file = _digest_file(directory, step)
    if not file.is_file():
        known = ", ".join(map(str, saved_steps(directory))) or "none"
        raise RunError(f"{directory} holds no checkpoint of step {step}; it has {known}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{file} is damaged ({error}); delete that checkpoint to go on from an earlier one"
        ) from error


def _digests(target: Path, pattern: str = "*") -> dict[str, str]:
    digests: dict[str, str] = {}
    for path in sorted(p for p in target.rglob(pattern) if p.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(target).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
