"""Other ways to serve the same model: each maps rows to logits, and is checked before it is timed.

A library is imported when one of its rivals is made; one that is not installed is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.bench import Progress, Score, draw_rows
from deeplight_jax.serving.engine import Engine
from deeplight_jax.serving.rivals.dense import dense_of_artifact, kind_of
from deeplight_jax.serving.rivals.forward import DenseArrays
from deeplight_jax.serving.rivals.sparse import live_kind
from deeplight_jax.serving.structure import Compact, with_table
from deeplight_jax.serving.tables import EXACT

LIMIT = 1e-4  # of |rival - engine| / max(1, |engine|)
LOSSY_LIMIT = 5e-2  # the same, of a table that rounds: what was folded into other weights was not rounded
_CHECKED_ROWS = 512


class _Rival(NamedTuple):
    module: str
    function: str
    needs: tuple[str, ...]  # packages
    takes: str  # dense: a kind and the dense arrays; live: the same with the structure; compact: it alone


RIVALS: dict[str, dict[str, _Rival]] = {
    "onnxruntime": {
        "ONNX Runtime, dense": _Rival("onnx", "onnx_dense", ("onnx", "onnxruntime"), "dense"),
        "ONNX Runtime, live part": _Rival("onnx", "onnx_live", ("onnx", "onnxruntime"), "live"),
    },
    "torch": {
        "PyTorch, dense": _Rival("pytorch", "torch_dense", ("torch",), "dense"),
        "PyTorch, dense, compiled": _Rival("pytorch", "torch_compiled", ("torch",), "dense"),
        "PyTorch, CSR": _Rival("pytorch", "torch_csr", ("torch",), "compact"),
    },
    "jax": {
        "JAX, dense": _Rival("xla", "jax_dense", ("jax",), "dense"),
        "JAX, BCSR": _Rival("xla", "jax_bcsr", ("jax",), "compact"),
    },
    "scipy": {"SciPy, CSR": _Rival("scipy_csr", "scipy_csr", ("scipy",), "compact")},
}
EXTRAS = {"onnxruntime": "pip install 'deeplight-jax[bench]'", "torch": "pip install torch"}


class Made(NamedTuple):
    """Rivals ready to be timed.

    Attributes:
      scorers: by name.
      left_out: why others are missing, by name.
    """

    scorers: dict[str, Score]
    left_out: dict[str, str]


def make_rivals(
    groups: Sequence[str],
    engine: Engine,
    dense: DenseArrays | None = None,
    progress: Progress | None = None,
) -> Made:
    """The rivals of an engine by library, each with the engine's logits on 512 random rows.

    Args:
      groups: keys of `RIVALS`.
      engine: its `about["model"]` tells the trained model's widths; rivals have its table as floats.
      dense: the trained model; by default unfolded from the engine's structure.
      progress: called before each rival, as one may compile for a while.

    Raises:
      ArtifactError: a rival's logits are not the engine's, or the model's settings are not known.
    """
    made, structure = Made({}, {}), with_table(engine.compact, "f32")
    model: Mapping[str, Any] = engine.about.get("model", {})
    wanted = [(group, name, rival) for group in groups for name, rival in RIVALS[group].items()]
    for done, (group, name, rival) in enumerate(wanted):
        if progress:
            progress("making rivals", done, len(wanted))
        if missing := [package for package in rival.needs if not _installed(package)]:
            remedy = f"; {EXTRAS[group]}" if group in EXTRAS else ""
            made.left_out[name] = f"{', '.join(missing)} is not installed{remedy}"
            continue
        if dense is None and rival.takes == "dense":
            dense = dense_of_artifact(structure, model)
        try:
            score = _make(rival, structure, model, dense)
            check(name, score, engine)
        except ArtifactError:
            raise
        except Exception as error:  # a library's own failure is its, and is shown
            made.left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        made.scorers[name] = score
    return made


def check(name: str, score: Score, engine: Engine) -> None:
    """Compare a rival's logits with the engine's, of many rows together and of one alone.

    Raises:
      ArtifactError: a logit differs by more than `LIMIT` of max(1, |logit|), or `LOSSY_LIMIT`.
    """
    limit = LIMIT if engine.compact.table_format in EXACT else LOSSY_LIMIT
    ids, values = draw_rows(engine.schema, "cold", _CHECKED_ROWS, seed=2)
    wanted = engine.logits(ids, values)
    for rows in (slice(0, _CHECKED_ROWS), slice(0, 1)):
        found = np.asarray(score(ids[rows], values[rows])).reshape(-1)
        error = np.abs(found - wanted[rows]) / np.maximum(1, np.abs(wanted[rows]))
        if found.shape != wanted[rows].shape or not (error <= limit).all():
            raise ArtifactError(
                f"{name} computes something else: a logit differs by {np.max(error):.3g} of max(1, |logit|), "
                f"which may be {limit:g}; is it a model of the same run?"
            )


def _make(rival: _Rival, structure: Compact, model: Mapping[str, Any], dense: DenseArrays | None) -> Score:
    function: Callable[..., Score] = getattr(import_module(f"{__name__}.{rival.module}"), rival.function)
    if rival.takes == "compact":
        return function(structure)
    if rival.takes == "live":
        return function(live_kind(structure), structure)
    return function(kind_of(model, structure.schema, structure.dim), dense)


def _installed(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True
