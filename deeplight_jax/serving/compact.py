"""Algorithm 1's last line: a projected model's parameters into a compact, sparse structure, by NumPy.

What is exact in real numbers is folded away in float64: linear terms into one value a table row, numeric
fields (one table row each) into the weights that read them, constant units into the next bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.data.schema import Schema, field_pairs
from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving.structure import ROW_FLOATS, Compact, Csr, Layer, NetInput, from_entries, sparse

_NET_INPUT: dict[str, NetInput] = {
    "lr": "none",
    "fm": "none",
    "fwfm": "none",
    "widedeep": "inputs",
    "deepfm": "inputs",
    "nfm": "pooled",
    "deepfwfm": "inputs",
}
_ALL_PAIRS = ("fm", "deepfm")
COMPACT_MODELS = tuple(_NET_INPUT)


class _Net(NamedTuple):
    """Kernels f64[input, unit] of the hidden layers, then of the output; f64[unit] biases of the hidden."""

    kernels: list[np.ndarray]
    biases: list[np.ndarray]


def compact(model: Mapping[str, Any], schema: Schema, params: Mapping[str, Any]) -> Compact:
    """The compact form of a model: live weights, units and pairs only.

    Args:
      model: its settings, as `config.model`: `name` and `nfm_pooling` are read.
      schema: fields of its training data.
      params: projected parameters, nested dicts of arrays as `load_run` gives them.

    Returns:
      The structure; its logits are the model's up to float32 rounding.

    Raises:
      ArtifactError: the model has no compact form, or a parameter is not finite.

    Cost: a few passes over the table; its copy, padded to 64 bytes a row, is the peak.
    """
    name = str(model["name"])
    if name not in _NET_INPUT:
        raise ArtifactError(
            f"model {name} has no compact form yet; those that have one: {', '.join(COMPACT_MODELS)}"
        )
    arrays = _finite(params)
    table = arrays["embedding"]["table"] if "embedding" in arrays else np.zeros((schema.num_rows, 0))
    live = _live_values(schema, table)
    net_input = net_input_of(model)
    net, products = _net(schema, table, live, arrays.get("deep"), net_input)
    net, constant = live_units(net)
    width = len(net.kernels[-1])
    terms = arrays.get("fwfm", {})
    bias = float(arrays.get("bias", 0.0)) + float(terms.get("bias", 0.0)) + constant
    hidden = zip(net.kernels[:-1], net.biases, strict=True)
    return Compact(
        schema=schema,
        dim=table.shape[1],
        table=_padded(table, _linear(schema, table, arrays)),
        bias=np.array([bias], np.float32),
        quadratic=_quadratic(schema, table, live, terms.get("r")),
        all_pairs=name in _ALL_PAIRS,
        net_input=net_input if width else "none",
        products=products if width else products[:0],
        layers=tuple(Layer(sparse(k.T), b.astype(np.float32)) for k, b in hidden) if width else (),
        output=net.kernels[-1][:, 0].astype(np.float32),
    )


def net_input_of(model: Mapping[str, Any]) -> NetInput:
    """What the net of a model that has a compact form reads; "none": it has no net."""
    pairwise = model["name"] == "nfm" and model["nfm_pooling"] == "pairwise"
    return "products" if pairwise else _NET_INPUT[str(model["name"])]


def live_units(net: _Net) -> tuple[_Net, float]:
    """A net without the units that are constant or that nothing reads, and what they add to the logit.

    Constant is a unit without an input, relu(bias), and behind the first layer, where inputs are never
    negative, one with neither a positive weight nor a positive bias, 0. One sweep forward, each constant
    added to the next bias, and one backward reach the fixed point: what goes on the way back feeds nothing,
    so no other unit becomes constant by it.
    """
    kernels, biases, constant = list(net.kernels), list(net.biases), 0.0
    for i, bias in enumerate(biases):
        fed = (kernels[i] != 0).any(axis=0)
        can_fire = (kernels[i] > 0).any(axis=0) | (bias > 0) if i else np.ones(len(bias), bool)
        lives = fed & can_fire
        added = np.where(fed, 0, np.maximum(bias, 0))[~lives] @ kernels[i + 1][~lives]
        if i + 1 < len(biases):
            biases[i + 1] = biases[i + 1] + added
        else:
            constant = float(added[0])
        kernels[i], biases[i] = kernels[i][:, lives], bias[lives]
        kernels[i + 1] = kernels[i + 1][lives]
    for i in reversed(range(len(biases))):
        read = (kernels[i + 1] != 0).any(axis=1)
        kernels[i + 1] = kernels[i + 1][read]
        kernels[i], biases[i] = kernels[i][:, read], biases[i][read]
    return _Net(kernels, biases), constant


def _net(
    schema: Schema,
    table: np.ndarray,
    live: np.ndarray,
    deep: Mapping[str, Any] | None,
    net_input: NetInput,
) -> tuple[_Net, np.ndarray]:
    """The whole net over the inputs that the engine gives it, and the field pairs whose products it reads."""
    none = np.zeros((0, 2), np.int32)
    if deep is None:
        return _Net([np.zeros((0, 1))], []), none
    hidden = [deep[f"hidden_{i}"] for i in range(sum(key.startswith("hidden_") for key in deep))]
    kernels = [h["kernel"].astype(np.float64) for h in hidden]
    biases = [h["bias"].astype(np.float64) for h in hidden]
    kernels.append(deep["output"]["kernel"].astype(np.float64) if "output" in deep else _ones(kernels, live))
    if net_input == "inputs":
        kernels[0] = _fold_numeric(schema, table, live, kernels[0])
    elif net_input == "pooled":
        kernels[0] = kernels[0] * (live.sum(axis=0) >= 2)[:, None]
    else:
        first, second = field_pairs(schema.num_fields)
        read = (live[first] & live[second]).any(axis=1) & (kernels[0] != 0).any(axis=1)
        kernels[0] = kernels[0][read]
        return _Net(kernels, biases), np.stack([first[read], second[read]], axis=1).astype(np.int32)
    return _Net(kernels, biases), none


def _ones(kernels: Sequence[np.ndarray], live: np.ndarray) -> np.ndarray:
    """The output weights of a net that is summed up; without hidden layers it sums the pairs."""
    fields = len(live)
    return np.ones((kernels[-1].shape[1] if kernels else fields * (fields - 1) // 2, 1))


def _fold_numeric(schema: Schema, table: np.ndarray, live: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """f64[input, unit]: of a numeric field's k rows of the kernel one is left, the weight of its value."""
    numeric, dim = len(schema.numeric), table.shape[1]
    own = kernel[: numeric * dim].reshape(numeric, dim, kernel.shape[1])
    folded = np.einsum("fk,fku->fu", table[:numeric].astype(np.float64), own)
    return np.concatenate([folded, kernel[numeric * dim :] * live[numeric:].reshape(-1, 1)])


def _quadratic(schema: Schema, table: np.ndarray, live: np.ndarray, r: np.ndarray | None) -> Csr:
    """FwFM's live pairs over the inputs z: sum_{i<j} R_ij <e_i, e_j> = z' Q z."""
    numeric, dim = len(schema.numeric), table.shape[1]
    inputs = numeric + len(schema.categorical) * dim
    entries: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    if r is not None:
        first, second = field_pairs(schema.num_fields)
        weights = r.astype(np.float64)
        weights = (0.5 * (weights + weights.T))[first, second] if r.ndim == 2 else weights
        own = table[:numeric].astype(np.float64)
        for at in np.flatnonzero(weights):
            i, j = int(first[at]), int(second[at])
            dims = np.flatnonzero(live[i] & live[j])
            if j < numeric:
                value = weights[at] * (own[i] @ own[j])
                entries.append((np.array([i]), np.array([j]), np.array([value])))
                continue
            column = numeric + (j - numeric) * dim + dims
            if i < numeric:
                entries.append((np.full(len(dims), i), column, weights[at] * own[i, dims]))
            else:
                row = numeric + (i - numeric) * dim + dims
                entries.append((row, column, np.full(len(dims), weights[at])))
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    return from_entries(rows, columns, values, (inputs, inputs))


def _linear(schema: Schema, table: np.ndarray, arrays: Mapping[str, Any]) -> np.ndarray:
    """f64[row]: the row's first-order weight, and its <e, v_f> w_f."""
    linear = np.zeros(schema.num_rows)
    if "weights" in arrays:
        linear += arrays["weights"]["table"][:, 0]
    terms = arrays.get("fwfm", {})
    if "v" in terms:
        vectors = terms["v"].astype(np.float64)
        if "field_weight" in terms:
            vectors = vectors * terms["field_weight"][:, None]
        for start, stop, vector in zip(*_bounds(schema), vectors, strict=True):
            linear[start:stop] += table[start:stop] @ vector
    return linear


def _live_values(schema: Schema, table: np.ndarray) -> np.ndarray:
    """bool[field, dim]: whether any of the field's rows is not zero there."""
    starts, _ = _bounds(schema)
    return np.logical_or.reduceat(table != 0, starts, axis=0)


def _bounds(schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """First table row of each field, and the one behind its last."""
    stops = np.cumsum([f.size for f in schema.fields])
    return np.concatenate([[0], stops[:-1]]), stops


def _padded(table: np.ndarray, linear: np.ndarray) -> np.ndarray:
    rows, dim = table.shape
    out = np.zeros((rows, -(-(dim + 1) // ROW_FLOATS) * ROW_FLOATS), np.float32)
    out[:, :dim], out[:, dim] = table, linear
    return out


def _finite(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested NumPy arrays of a parameter tree."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out[key] = _finite(value, f"{prefix}{key}.")
            continue
        out[key] = np.asarray(value)
        if not np.isfinite(out[key]).all():
            raise ArtifactError(f"parameter {prefix}{key} is not finite: the model has diverged")
    return out
