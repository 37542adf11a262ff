"""A model's logits in whatever array library: written once, for NumPy, PyTorch and JAX alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from deeplight_jax.serving.structure import NetInput


class Kind(NamedTuple):
    """What is computed, beside the arrays: numbers of numeric fields and values an embedding, terms, net."""

    numeric: int
    dim: int
    all_pairs: bool
    net_input: NetInput


class DenseArrays(NamedTuple):
    """The whole model with its zeros.

    Attributes:
      table: f32[row, dim].
      offsets: i32[categorical], first table row of each categorical field.
      weights: f32[row], first-order weight of each row, or None.
      vectors: f32[field, dim], FwFM's linear term <e_f, v_f>, or None.
      cross: f32[field, field], R above the diagonal, or None.
      first, second: i64[pair], the field pairs whose products the net reads.
      layers: (kernel f32[input, unit], bias f32[unit]) of each hidden layer.
      output: f32[unit, 1].
      bias: f32[1].
    """

    table: Any
    offsets: Any
    weights: Any
    vectors: Any
    cross: Any
    first: Any
    second: Any
    layers: tuple[tuple[Any, Any], ...]
    output: Any
    bias: Any


class LiveArrays(NamedTuple):
    """The compact structure.

    Attributes:
      table: f32[row, width]: dim values, the row's linear value, padding.
      offsets, first, second, bias: as in `DenseArrays`.
      quadratic: transposed Q, a sparse matrix [input, input], or None.
      layers: (sparse matrix [unit, input], bias f32[unit, 1]) of each hidden layer.
      output: f32[unit].
    """

    table: Any
    offsets: Any
    quadratic: Any
    first: Any
    second: Any
    layers: tuple[tuple[Any, Any], ...]
    output: Any
    bias: Any


class Ops(NamedTuple):
    """What array libraries name differently.

    Attributes:
      concat: (arrays, axis).
      affine: (x, kernel, bias), of rows.
      relu: (x).
    """

    concat: Callable[[list[Any], int], Any]
    affine: Callable[[Any, Any, Any], Any]
    relu: Callable[[Any], Any]


def dense_logits(kind: Kind, a: DenseArrays, ids: Any, values: Any, ops: Ops) -> Any:
    """[row] of ids [row, categorical] and values [row, numeric], multiplying by every zero."""
    rows = ids + a.offsets
    out = a.bias
    if a.weights is not None:
        out = out + a.weights[rows].sum(1) + values @ a.weights[: kind.numeric]
    if not kind.dim:
        return out
    e = ops.concat([values[:, :, None] * a.table[: kind.numeric], a.table[rows]], 1)
    if a.cross is not None:
        out = out + ((a.cross @ e) * e).sum((1, 2))
    if a.vectors is not None:
        out = out + (e * a.vectors).sum((1, 2))
    if kind.all_pairs:
        out = out + _pooled(e).sum(1)
    if kind.net_input == "none":
        return out
    x = _net_input(kind, e, a.first, a.second) if kind.net_input != "inputs" else e.reshape(e.shape[0], -1)
    for kernel, bias in a.layers:
        x = ops.relu(ops.affine(x, kernel, bias))
    return out + (x @ a.output)[:, 0]


def live_logits(kind: Kind, a: LiveArrays, ids: Any, values: Any, ops: Ops) -> Any:
    """The same by sparse matrices over columns of rows."""
    taken = a.table[ids + a.offsets]
    e = taken[:, :, : kind.dim]
    z = ops.concat([values, e.reshape(ids.shape[0], -1)], 1).T
    out = a.bias + taken[:, :, kind.dim].sum(1) + values @ a.table[: kind.numeric, kind.dim]
    if a.quadratic is not None:
        out = out + ((a.quadratic @ z) * z).sum(0)
    if kind.all_pairs or kind.net_input in ("pooled", "products"):
        e = ops.concat([values[:, :, None] * a.table[: kind.numeric, : kind.dim], e], 1)
    if kind.all_pairs:
        out = out + _pooled(e).sum(1)
    if kind.net_input == "none":
        return out
    x = _net_input(kind, e, a.first, a.second).T if kind.net_input != "inputs" else z
    for matrix, bias in a.layers:
        x = ops.relu(matrix @ x + bias)
    return out + a.output @ x


def _net_input(kind: Kind, e: Any, first: Any, second: Any) -> Any:
    """NFM's, of the fields' vectors [row, field, dim]."""
    return _pooled(e) if kind.net_input == "pooled" else (e[:, first] * e[:, second]).sum(2)


def _pooled(e: Any) -> Any:
    """[row, dim], the sum over field pairs of e_i * e_j."""
    total = e.sum(1)
    return 0.5 * (total * total - (e * e).sum(1))
