"""The dense model that an artifact's structure came from, of the trained model's widths, zeros included.

What compacting folded away is unfolded so that a rival does the trained model's multiply-adds: dead units
come back as zeros, a numeric field's folded weight stands at one of its k inputs, R is read off the
quadratic form. So an artifact alone gives the logits and the work, but not every weight: what a dead unit
held is gone, and FwFM's <e, v> stays one value a table row. `dense_of_params` has the trained weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema, field_pairs
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.compact import COMPACT_MODELS, net_input_of
from deeplight_jax.serving.rivals.forward import DenseArrays, Kind
from deeplight_jax.serving.structure import Compact

_ALL_PAIRS = ("fm", "deepfm")


def kind_of(model: Mapping[str, Any], schema: Schema, dim: int) -> Kind:
    """What a model computes.

    Raises:
      ArtifactError: the artifact does not say which model it is of.
    """
    if model.get("name") not in COMPACT_MODELS:
        raise ArtifactError(
            "the artifact does not say which model it was made from, so no dense rival of it can be made; "
            "export it again, or compare with none"
        )
    return Kind(len(schema.numeric), dim, model["name"] in _ALL_PAIRS, net_input_of(model))


def dense_of_artifact(compact: Compact, model: Mapping[str, Any]) -> DenseArrays:
    """The dense model of a compact structure.

    Args:
      compact: the structure, its table of floats.
      model: settings of the trained model, as the artifact's `about["model"]`.

    Raises:
      ArtifactError: the settings are missing or do not fit.
    """
    schema, dim = compact.schema, compact.dim
    kind = kind_of(model, schema, dim)
    kernels, biases = _net(kind, compact, model)
    first, second = field_pairs(schema.num_fields)
    return DenseArrays(
        table=np.ascontiguousarray(compact.table[:, :dim]),
        offsets=schema.offsets,
        weights=np.ascontiguousarray(compact.table[:, dim]),
        vectors=None,
        cross=_cross(compact) if model["name"] in ("fwfm", "deepfwfm") else None,
        first=first,
        second=second,
        layers=tuple(zip(kernels[:-1], biases, strict=True)),
        output=kernels[-1],
        bias=compact.bias,
    )


def dense_of_params(model: Mapping[str, Any], schema: Schema, params: Mapping[str, Any]) -> DenseArrays:
    """The trained model itself, of its projected parameters as `load_run` gives them."""
    rows, terms, deep = schema.num_rows, params.get("fwfm", {}), params.get("deep", {})
    table = _array(params["embedding"]["table"]) if "embedding" in params else np.zeros((rows, 0), np.float32)
    hidden = [deep[f"hidden_{i}"] for i in range(sum(key.startswith("hidden_") for key in deep))]
    first, second = field_pairs(schema.num_fields)
    kernels = [_array(layer["kernel"]) for layer in hidden]
    width = kernels[-1].shape[1] if kernels else len(first)
    last = _array(deep["output"]["kernel"]) if "output" in deep else np.ones((width, 1), np.float32)
    bias = _array(params.get("bias", 0.0)) + _array(terms.get("bias", 0.0))
    return DenseArrays(
        table=table,
        offsets=schema.offsets,
        weights=_array(params["weights"]["table"])[:, 0] if "weights" in params else None,
        vectors=_vectors(terms) if "v" in terms else None,
        cross=_upper(_array(terms["r"]), schema.num_fields) if "r" in terms else None,
        first=first,
        second=second,
        layers=tuple((k, _array(layer["bias"])) for k, layer in zip(kernels, hidden, strict=True)),
        output=last,
        bias=bias.reshape(1),
    )


def _array(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)


def _vectors(terms: Mapping[str, Any]) -> np.ndarray:
    vectors = _array(terms["v"])
    return vectors * _array(terms["field_weight"])[:, None] if "field_weight" in terms else vectors


def _upper(r: np.ndarray, fields: int) -> np.ndarray:
    """f32[field, field], R above the diagonal."""
    first, second = field_pairs(fields)
    out = np.zeros((fields, fields), np.float32)
    out[first, second] = (0.5 * (r + r.T))[first, second] if r.ndim == 2 else r
    return out


def _cross(compact: Compact) -> np.ndarray:
    """f32[field, field]: R above the diagonal, each weight from the entry that tells it best.

    An entry of Q is R_ij of two categorical fields, R_ij times a numeric field's own value, or R_ij times the
    product of two numeric fields' vectors.
    """
    schema, dim, q = compact.schema, compact.dim, compact.quadratic
    numeric, n = len(schema.numeric), schema.num_fields
    own = compact.table[:numeric, :dim].astype(np.float64)
    field = np.concatenate([np.arange(numeric), np.repeat(np.arange(numeric, n), dim)])
    value = np.concatenate([np.zeros(numeric, int), np.tile(np.arange(dim), n - numeric)])
    rows, columns = np.repeat(np.arange(q.rows), np.diff(q.indptr)), q.indices
    i, j = field[rows], field[columns]
    scale = np.ones(len(rows))
    mixed, both = (i < numeric) & (j >= numeric), j < numeric
    scale[mixed] = own[i[mixed], value[columns[mixed]]]
    scale[both] = np.einsum("pk,pk->p", own[i[both]], own[j[both]])
    best = np.argsort(np.abs(scale), kind="stable")  # of entries for one pair the last is kept
    out = np.zeros((n, n), np.float32)
    out[i[best], j[best]] = (q.values / scale)[best]
    return out


def _net(kind: Kind, compact: Compact, model: Mapping[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels f32[input, unit] of the hidden layers and the output, and the hidden biases, at full width."""
    if kind.net_input == "none":
        return [np.zeros((0, 1), np.float32)], []
    n = compact.schema.num_fields
    inputs = {"inputs": n * compact.dim, "pooled": compact.dim, "products": n * (n - 1) // 2}[kind.net_input]
    widths = _widths(inputs, tuple(model["hidden"]), float(model.get("narrow", 0.0)))
    kernels = [np.zeros(shape, np.float32) for shape in zip((inputs, *widths), (*widths, 1), strict=True)]
    biases = [np.zeros(width, np.float32) for width in widths]
    if compact.net_input == "none":  # the whole net was constant
        return kernels, biases
    live = [*(layer.weights.dense().T for layer in compact.layers), compact.output[:, None]]
    if len(live) != len(kernels):
        raise ArtifactError(f"the artifact has {len(live) - 1} hidden layers, its settings {len(widths)}")
    live[0] = _unfolded(kind, compact, live[0], inputs)
    for full, part in zip(kernels, live, strict=True):
        full[: part.shape[0], : part.shape[1]] = part
    for full, layer in zip(biases, compact.layers, strict=True):
        full[: len(layer.bias)] = layer.bias
    return kernels, biases


def _widths(inputs: int, hidden: tuple[int, ...], narrow: float) -> tuple[int, ...]:
    if not narrow:
        return hidden
    from deeplight_jax.layers.mlp import narrowed

    return narrowed(inputs, hidden, narrow)


def _unfolded(kind: Kind, compact: Compact, kernel: np.ndarray, inputs: int) -> np.ndarray:
    """f32[input of the dense model, unit] of the compact net's first kernel."""
    out = np.zeros((inputs, kernel.shape[1]), np.float32)
    numeric, dim = kind.numeric, compact.dim
    if kind.net_input == "inputs":
        own = compact.table[:numeric, :dim].astype(np.float64)
        at = np.abs(own).argmax(axis=1)
        value = own[np.arange(numeric), at]
        used = np.flatnonzero(value)  # a field whose vector is zero feeds nothing
        out[used * dim + at[used]] = kernel[used] / value[used, None]
        out[numeric * dim :] = kernel[numeric:]
    elif kind.net_input == "products":
        n = compact.schema.num_fields
        place = np.zeros((n, n), int)
        place[field_pairs(n)] = np.arange(inputs)
        out[place[compact.products[:, 0], compact.products[:, 1]]] = kernel
    else:
        out[:] = kernel
    return out
