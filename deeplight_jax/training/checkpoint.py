"""Checkpoints: Orbax writes and reads them, a SHA-256 of every file tells a whole one from a damaged one.

    CHECKPOINTS/STEP/...                  Orbax: `state` and `about` (JSON)
    CHECKPOINTS/STEP/masks.safetensors    the state's masks once more, a bit a weight (see sparsity.maskfile)
    CHECKPOINTS/STEP.sha256.json          {file: digest}, written last: a step without it is unfinished

Orbax notices neither a flipped bit nor another shape, so digests are compared before every read.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.filesize import decimal

from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.files import write_atomically
from deeplight_jax.mesh import Placement
from deeplight_jax.sparsity.algebra import leaves_by_path
from deeplight_jax.sparsity.components import Labels, Masks
from deeplight_jax.sparsity.maskfile import read_masks, write_masks
from deeplight_jax.training.digests import (
    MASKS_FILE,
    digest_file,
    digests_of,
    expected_digests,
    saved_steps,
    verify,
)
from deeplight_jax.training.hosts import as_lost, first_does, first_line, meet
from deeplight_jax.training.masks_alone import PRUNABLE
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.stored import read_state, write_state


def save(
    directory: Path,
    state: TrainState,
    about: Mapping[str, Any],
    labels: Labels = None,
    true: tuple[Masks, Any] | None = None,
) -> None:
    """Write a checkpoint of `state.step`; it counts only once its digests are written.

    On several hosts all call it: each writes the blocks that its devices hold, the first one all the rest.

    Args:
      directory: holds one run's checkpoints; all hosts see it.
      state: what to save; of a table that is split with the rows behind it (see `mesh`).
      about: JSON-able facts to save with it.
      labels: component codes, structured as the parameters, to be named in the file of masks.
      true: masks on this host and shapes of the parameters, where the state's are of other shapes.

    Raises:
      RunError: the disk refuses it, or another host is lost; earlier checkpoints stay as they are.
    """
    step, (masks, params) = int(state.step), true or (state.masks, state.params)
    target = (directory / str(step)).absolute()
    try:
        first_does(_clear, directory, step)
        meet(f"before saving {step}")
        write_state(target, state, about)
        first_does(_seal, directory, step, masks, _prunable(params, labels))
        meet(f"saved {step}")
    except (OSError, MaskError, ValueError) as error:  # a full disk is a ValueError to Orbax
        raise as_lost(error) or _refused(target, error, state) from error  # gloo's too come as ValueError


def _refused(target: Path, error: Exception, state: TrainState) -> RunError:
    why = first_line(error)
    if (full := os.strerror(errno.ENOSPC)) in str(error):
        why = f"{full}: its arrays take {decimal(sum(x.nbytes for x in jax.tree.leaves(state)))}"
    return RunError(f"cannot save {target} ({why}); free disk space or name another --workdir")


def _clear(directory: Path, step: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    digest_file(directory, step).unlink(missing_ok=True)  # first: what has digests is whole
    shutil.rmtree(directory / str(step), ignore_errors=True)  # what an interrupted save left


def _seal(directory: Path, step: int, masks: Masks, about: dict[str, Any]) -> None:
    target = directory / str(step)
    write_masks(target / MASKS_FILE, masks, about)
    write_atomically(
        digest_file(directory, step), json.dumps(digests_of(target), indent=1) + "\n", alone=True
    )


def restore(
    directory: Path, step: int, like: TrainState, place: Placement | None = None
) -> tuple[TrainState, dict[str, Any]]:
    """Read back a checkpoint after comparing every file with its digest.

    It may be of another mesh: each device reads the rows that it holds.

    Args:
      directory: holds one run's checkpoints.
      step: one of `saved_steps`.
      like: `jax.ShapeDtypeStruct` leaves in the state's structure, of the true shapes.
      place: where the state is held; by default on one device.

    Raises:
      RunError: no such checkpoint, a damaged or missing file (named), or another structure.
    """
    target = (directory / str(step)).absolute()
    verify(directory, step)
    try:
        return read_state(target, like, place)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{target} does not fit this run's model ({error})") from error


def restore_masks(directory: Path, step: int) -> Masks | None:
    """The masks of a checkpoint alone, or None if it is from before checkpoints had a file of them.

    Raises:
      RunError: no such checkpoint, or its file of masks is damaged or missing.

    Cost:
      Reads and compares that one file: a bit a weight.
    """
    if MASKS_FILE not in expected_digests(directory, step):
        return None
    verify(directory, step, only=MASKS_FILE)
    try:
        return read_masks(directory / str(step) / MASKS_FILE)[0]
    except MaskError as error:
        raise RunError(str(error)) from error


def prune(directory: Path, keep: Collection[int]) -> None:
    """Delete the checkpoints of all other steps, whole and unfinished ones."""
    for step in saved_steps(directory):
        if step not in keep:
            digest_file(directory, step).unlink()
    drop_unfinished(directory)


def drop_unfinished(directory: Path) -> None:
    """Delete what has no digests: a checkpoint whose writing or deletion was interrupted."""
    whole = {str(step) for step in saved_steps(directory)}
    for path in [*directory.glob("*/")]:
        if path.name not in whole:
            shutil.rmtree(path, ignore_errors=True)


def _prunable(params: Any, labels: Labels) -> dict[str, Any]:
    """What the file of masks says, so that it can be read without the model (see `masks_alone`)."""
    shapes = {path: list(leaf.shape) for path, leaf in leaves_by_path(params).items()}
    codes = {} if labels is None else leaves_by_path(labels)
    return {PRUNABLE: {path: [code, shapes[path]] for path, code in codes.items() if code}} if codes else {}
