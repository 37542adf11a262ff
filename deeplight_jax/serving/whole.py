"""A model without a compact form, served as it was trained: its projected parameters, scored by JAX.

Nothing is folded and no weight is skipped, so sparsity buys no speed. In the file an array with enough zeros
is a bit a weight (in `sparsity.packing`'s order) and the weights that are not zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplight_jax.data.prepared import Split
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ArtifactError, DeeplightError

_SIZES = (1, 4, 16, 64, 256, 1024)  # rows a forward pass: calls are padded to these, so few are compiled
_BITS, _VALUES = ".bits", ".values"  # behind a path: of an array whose zeros are left out


@dataclass(frozen=True)
class Whole:
    """A model as it is served by JAX.

    Attributes:
      schema: fields of its training data.
      model: its settings, as `config.model`.
      params: f32 projected parameters by path, such as "deep/hidden_0/kernel".
    """

    schema: Schema
    model: Mapping[str, Any]
    params: Mapping[str, np.ndarray]

    def counts(self) -> dict[str, Any]:
        """Parameters that are not zero, by layer."""
        found: dict[str, Any] = {}
        for path, array in self.params.items():
            layer = path.partition("/")[0]
            found[layer] = found.get(layer, 0) + int(np.count_nonzero(array))
        return found


def whole(model: Mapping[str, Any], schema: Schema, params: Mapping[str, Any]) -> Whole:
    """A model as it is served by JAX.

    Args:
      model: its settings, as `config.model`.
      schema: fields of its training data.
      params: projected parameters, nested dicts of arrays as `load_run` gives them.

    Raises:
      ArtifactError: a parameter is not finite.
    """
    flat = _by_path(params)
    for path, array in flat.items():
        if not np.isfinite(array).all():
            raise ArtifactError(f"parameter {path} is not finite: the model has diverged")
    return Whole(schema, {k: list(v) if isinstance(v, tuple) else v for k, v in model.items()}, flat)


def to_arrays(model: Whole) -> dict[str, np.ndarray]:
    """Every array by name, each as it takes less room; `from_arrays` reads them back (-0 as 0)."""
    arrays: dict[str, np.ndarray] = {}
    for path, array in model.params.items():
        kept = array != 0
        bits, values = np.packbits(kept, bitorder="little"), array[kept]
        if bits.nbytes + values.nbytes < array.nbytes:
            arrays |= {path + _BITS: bits, path + _VALUES: values}
        else:
            arrays[path] = array
    return arrays


def settings(model: Whole) -> dict[str, Any]:
    """What `from_arrays` needs beside the arrays, for JSON."""
    return {
        "schema": model.schema.to_json(),
        "model": dict(model.model),
        "shapes": {path: list(array.shape) for path, array in model.params.items()},
    }


def from_arrays(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Whole:
    """The model of its settings and arrays, checked against each other; `forward` checks them by its layers.

    Raises:
      ArtifactError: a setting or an array is missing or does not fit; it is named.
    """
    try:
        schema, model, shapes = Schema.from_json(about["schema"]), dict(about["model"]), dict(about["shapes"])
        known = {path + end for path in shapes for end in ("", _BITS, _VALUES)}
        if odd := sorted(arrays.keys() - known):
            raise ArtifactError(f"its array {odd[0]} has no shape")
        return Whole(schema, model, {path: _array(path, arrays, shape) for path, shape in shapes.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ArtifactError):
            raise
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"its description is not whole ({what})") from error


def forward(model: Whole) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function of checked ids i32[row, categorical] and values f32[row, numeric] to logits f32[row].

    It computes in float32 with full matrix precision.

    Raises:
      ArtifactError: JAX is not installed, the settings are no model's, or its layers have other parameters.

    Cost: a compilation for each of the sizes that calls are padded to, when it is first needed.
    """
    try:
        import jax

        from deeplight_jax.evaluation.evaluate import predict_logits
        from deeplight_jax.sparsity.maskfile import nested
    except ImportError as error:
        raise ArtifactError(
            f"model {model.model.get('name')} has no compact form and is served by JAX, which cannot be "
            f"imported here ({error}); install jax and flax"
        ) from error
    module, params = _module(model), jax.device_put(nested(model.params))

    def logits(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        size = next((s for s in _SIZES if s >= len(ids)), _SIZES[-1])
        rows = Split(ids, values, np.broadcast_to(np.uint8(0), len(ids)))
        with jax.default_matmul_precision("highest"):
            return predict_logits(module, params, rows, size)

    return logits


def check_same(model: Whole, params: Mapping[str, Any]) -> None:
    """Refuse a model whose parameters are not exactly these.

    Raises:
      ArtifactError: naming the first parameter that differs.
    """
    wanted = _by_path(params)
    for path in sorted(wanted.keys() | model.params.keys()):
        found, due = model.params.get(path), wanted.get(path)
        if found is None or due is None or not np.array_equal(found, due):
            raise ArtifactError(f"parameter {path} of the artifact is not the run's; export the run again")


def _module(model: Whole) -> Any:
    """The Linen module of the settings, whose parameters have the shapes of these."""
    from deeplight_jax.config import default_config, from_json
    from deeplight_jax.models import abstract_params, build_model
    from deeplight_jax.sparsity.algebra import leaves_by_path

    known = default_config().to_dict()
    known["model"] |= {**model.model, "compute_dtype": "float32"}
    try:
        module = build_model(from_json(json.dumps(known)), model.schema)
        shapes, _ = abstract_params(module, model.schema)
    except (DeeplightError, ArithmeticError, TypeError, ValueError) as error:
        raise ArtifactError(f"its settings make no model ({error})") from error
    due = {path: tuple(leaf.shape) for path, leaf in leaves_by_path(shapes).items()}
    found = {path: array.shape for path, array in model.params.items()}
    if odd := sorted(due.items() ^ found.items()):
        path = odd[0][0]
        raise ArtifactError(
            f"its parameter {path} is {_shown(found.get(path))}, model {model.model['name']} has "
            f"{_shown(due.get(path))}"
        )
    return module


def _by_path(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    from deeplight_jax.sparsity.algebra import leaves_by_path

    return {path: np.asarray(leaf) for path, leaf in leaves_by_path(params).items()}


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else f"float32{list(shape)}"


def _array(path: str, arrays: Mapping[str, np.ndarray], shape: Any) -> np.ndarray:
    """One parameter, from whichever of the two forms is there."""
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise ArtifactError(f"its parameter {path} has no shape but {shape!r}")
    count = math.prod(shape)
    if path in arrays:
        found = arrays[path]
        if found.dtype != np.float32 or list(found.shape) != shape:
            raise ArtifactError(f"its array {path} is {found.dtype}{list(found.shape)}, not float32{shape}")
    else:
        bits, values = arrays[path + _BITS], arrays[path + _VALUES]
        if bits.dtype != np.uint8 or bits.shape != (-(-count // 8),):
            raise ArtifactError(f"its array {path}{_BITS} is {bits.dtype}{list(bits.shape)}, for {shape}")
        kept = np.unpackbits(bits, count=count, bitorder="little").view(bool)
        if values.dtype != np.float32 or values.shape != (np.count_nonzero(kept),):
            raise ArtifactError(f"its array {path}{_VALUES} does not have a float32 for each bit")
        found = np.zeros(count, np.float32)
        found[kept] = values
        found = found.reshape(shape)
    if not np.isfinite(found).all():
        raise ArtifactError(f"its parameter {path} holds a value that is not finite")
    return found
