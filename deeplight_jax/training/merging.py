"""Masks of several runs: whether they can be compared, and merged into a file that a run may start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax import linen as nn

from deeplight_jax.data.identity import difference, identity
from deeplight_jax.data.prepared import Prepared
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.evaluation.liveness import describe_masks
from deeplight_jax.models import abstract_params
from deeplight_jax.sparsity.algebra import check_alike, complete, intersect, leaves_by_path, majority, union
from deeplight_jax.sparsity.components import UNPRUNED, Masks
from deeplight_jax.sparsity.maskfile import nested, read_masks, write_masks
from deeplight_jax.training.inspect import RunMasks, load_masks
from deeplight_jax.training.masks_alone import PRUNABLE
from deeplight_jax.training.run import directory_of

OPERATIONS: dict[str, Callable[..., Masks]] = {"and": intersect, "or": union, "majority": majority}


def load_comparable(workdirs: Sequence[str | Path]) -> list[RunMasks]:
    """Masks of runs (RUN or RUN@STEP) of one model over the same fields and vocabularies.

    Raises:
      RunError: a run is missing or damaged, or differs from the first one; the first difference is named.
    """
    found = [load_masks(workdir) for workdir in workdirs]
    for name, other in zip(workdirs[1:], found[1:], strict=True):
        first, whose = found[0], f"{workdirs[0]}'s"
        if differs := difference(other.data, first.data, whose):
            raise RunError(f"{name}: {differs}; compare runs over the same data")
        ours, theirs = first.config.model.name, other.config.model.name
        if theirs != ours:
            raise RunError(f"{name}: its model is {theirs}, {whose} {ours}; compare runs of one model")
        try:
            check_alike(first.masks, other.masks)
        except MaskError as error:
            raise RunError(f"{workdirs[0]} (first) against {name}: {error}") from error
    return found


def merge_masks(
    workdirs: Sequence[str | Path], operation: str, out: str | Path
) -> tuple[RunMasks, dict[str, Any]]:
    """Merge the masks of runs by "and", "or" or "majority" (a tie is pruned) and write them to a file.

    Args:
      workdirs: RUN or RUN@STEP each; one run alone gives its own masks.
      operation: a key of `OPERATIONS`.
      out: the file; `sparsity.init_masks` names it to start a run from it.

    Returns:
      The first run with the merged masks in place of its own, and what the file says about them.

    Raises:
      RunError: a run is missing or damaged, or differs from the first one.
      MaskError: the file cannot be written.
    """
    found = load_comparable(workdirs)
    first = found[0]
    merged = OPERATIONS[operation](*(f.masks for f in found))
    masks, codes = leaves_by_path(merged), leaves_by_path(first.labels)
    about = {
        "operation": operation,
        "runs": [f"{directory_of(name)}@{f.step}" for name, f in zip(workdirs, found, strict=True)],
        "model": first.config.model.name,
        "schema": first.data["schema"],
        "vocabulary": first.data["vocabulary"],
        PRUNABLE: {path: [code, list(masks[path].shape)] for path, code in codes.items() if code != UNPRUNED},
    }
    write_masks(out, merged, about)
    return first._replace(masks=merged), about


def describe_file(file: str | Path) -> dict[str, Any]:
    """`describe_masks` of a file of `merge_masks`, with its operation, runs and model.

    Raises:
      MaskError: the file is missing or damaged, or does not name its fields and components.
    """
    masks, about = read_masks(file)
    if not {PRUNABLE, "schema", "model", "operation", "runs"} <= about.keys():
        raise MaskError(f"{file} does not name its fields and components, as `deeplight masks merge` does")
    codes = {path: code for path, (code, _) in about[PRUNABLE].items()}
    labels = nested({path: codes.get(path, UNPRUNED) for path in leaves_by_path(masks)})
    described = describe_masks(masks, labels, Schema.from_json(about["schema"]), {})
    return {key: about[key] for key in ("operation", "runs", "model")} | described


def load_initial_masks(file: str | Path, name: str, model: nn.Module, data: Prepared) -> Masks:
    """Masks of a file for every prunable leaf of a model, all True where the file has none.

    Args:
      file: of `merge_masks`, or of `write_masks` by a user who says nothing of the data.
      name: the model's, in the registry.
      model: to be trained.
      data: its rows.

    Raises:
      MaskError: the file is missing or damaged, or of another model or other data; the first difference is
        named.
    """
    masks, about = read_masks(file)
    if "schema" in about and (differs := difference(identity(data), about, "the masks'")):
        raise MaskError(f"sparsity.init_masks={file} does not fit {data.directory}: {differs}")
    if about.get("model", name) != name:
        raise MaskError(f"sparsity.init_masks={file} is of model {about['model']}, not {name}")
    try:
        return complete(masks, *abstract_params(model, data.schema))
    except MaskError as error:
        raise MaskError(f"sparsity.init_masks={file}: {error}") from error
