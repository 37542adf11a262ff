"""Two runs' masks compared from their files alone, without JAX, for `deeplight masks diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplight_jax.data.identity import difference
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.evaluation.comparing import compare_components
from deeplight_jax.sparsity.maskbits import read_by_path
from deeplight_jax.training.digests import MASKS_FILE, read_sealed, saved_steps, split_step, verify

PRUNABLE = "prunable"
"""What a checkpoint says about its masks: `{path: [component code, shape]}` of every prunable parameter."""


def compare_runs(a: str, b: str) -> dict[str, Any] | None:
    """`masks diff --json` of RUN[@STEP] and another; None where it takes the model to tell.

    That is so where a file of masks is from before it named its components, and where there is an error to
    report: both are left to `merging.load_comparable`.

    Cost:
      Reads a bit a weight of each run.
    """
    try:
        (step_a, model_a, data_a, masks_a), (step_b, model_b, data_b, masks_b) = _read(a), _read(b)
        if model_a != model_b or difference(data_b, data_a, "") or _shapes(masks_a) != _shapes(masks_b):
            return None
        compared = compare_components(masks_a, masks_b, Schema.from_json(data_a["schema"]))
    except (RunError, MaskError, OSError, ValueError, LookupError, TypeError):
        return None
    return {"a": {"run": a, "step": step_a}, "b": {"run": b, "step": step_b}, **compared}


def _read(workdir: str) -> tuple[int, str, dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Step, model, data's identity, and masks by component and path."""
    directory, wanted = split_step(workdir)
    checkpoints = directory / "checkpoints"
    result = directory / "result.json"
    if wanted:
        step = int(wanted)
    else:
        step = int(_json(result)["best_step"]) if result.exists() else saved_steps(checkpoints)[-1]
    verify(checkpoints, step, only=MASKS_FILE)
    masks, about = read_by_path(checkpoints / str(step) / MASKS_FILE)
    model = _json(directory / "config.json")["model"]["name"]
    return step, model, _json(directory / "data.json"), _by_component(masks, about[PRUNABLE])


def _by_component(
    masks: Mapping[str, np.ndarray | None], prunable: Mapping[str, tuple[str, list[int]]]
) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for path, (code, shape) in prunable.items():
        keep = masks[path]
        found.setdefault(code, {})[path] = np.ones(shape, bool) if keep is None else keep
    return found


def _shapes(masks: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, tuple[int, ...]]]:
    return {code: {path: keep.shape for path, keep in layers.items()} for code, layers in masks.items()}


def _json(file: Path) -> Any:
    return json.loads(read_sealed(file))
