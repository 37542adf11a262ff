"""ONNX Runtime: the dense model as it would be exported, and at its best the live part of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplight_jax.serving.bench import Score
from deeplight_jax.serving.rivals.forward import DenseArrays, Kind
from deeplight_jax.serving.structure import Compact

_OPSET, _IR = 18, 9
_MOST_BYTES = 2_000_000_000  # of an ONNX file, a protocol buffer


class _Graph:
    """An ONNX graph under construction; a call with an operator and its inputs gives the output's name."""

    def __init__(self, kind: Kind, categorical: int):
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._numpy, self._nodes, self._constants = helper, numpy_helper, [], []
        self._kind = kind
        self._inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT32, [None, categorical]),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, [None, kind.numeric]),
        ]
        self._output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 1])

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(self._numpy.from_array(np.ascontiguousarray(array), name))
        return name

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        out = f"n{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def whole(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def total(self, x: str, *axes: int, keep: int = 0) -> str:
        return self("ReduceSum", x, self.whole(*axes), keepdims=keep)

    def column(self, x: str) -> str:
        """[row] as [row, 1]."""
        return self("Unsqueeze", x, self.whole(1))

    def rows(self, offsets: np.ndarray) -> str:
        return self("Add", "ids", self.constant(offsets))

    def first_order(self, weights: np.ndarray, rows: str) -> list[str]:
        """Terms [row, 1] of weights f32[table row]."""
        own = self.constant(weights[: self._kind.numeric, None])
        taken = self("Gather", self.constant(weights), rows)
        return [self.total(taken, 1, keep=1), self("MatMul", "values", own)]

    def fields(self, table: np.ndarray, taken: str) -> str:
        """[row, field, dim] of a table and its rows of the categorical fields."""
        own = self.constant(table[: self._kind.numeric])
        return self("Concat", self("Mul", self("Unsqueeze", "values", self.whole(2)), own), taken, axis=1)

    def pooled(self, e: str) -> str:
        total = self.total(e, 1)
        squares = self.total(self("Mul", e, e), 1)
        both = self("Sub", self("Mul", total, total), squares)
        return self("Mul", both, self.constant(np.array(0.5, np.float32)))

    def products(self, e: str, first: np.ndarray, second: np.ndarray) -> str:
        one, other = (self("Gather", e, self.constant(i), axis=1) for i in (first, second))
        return self.total(self("Mul", one, other), 2)

    def net(self, x: str, layers: list[tuple[np.ndarray, np.ndarray]]) -> str:
        for i, (kernel, bias) in enumerate(layers):
            x = self("Gemm", x, self.constant(kernel), self.constant(bias))
            x = self("Relu", x) if i + 1 < len(layers) else x
        return x

    def scorer(self, terms: list[str]) -> Score:
        """The sum of terms [row, 1], as ONNX Runtime computes it on one thread."""
        import onnxruntime

        self._nodes.append(self._helper.make_node("Sum", terms, ["logits"]))
        graph = self._helper.make_graph(self._nodes, "model", self._inputs, [self._output], self._constants)
        model = self._helper.make_model(
            graph, opset_imports=[self._helper.make_opsetid("", _OPSET)], ir_version=_IR
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda ids, values: session.run(None, {"ids": ids, "values": values})[0]


def onnx_dense(kind: Kind, a: DenseArrays) -> Score:
    """The whole model with its zeros."""
    _check_size(a.table.nbytes)
    g = _Graph(kind, len(a.offsets))
    rows = g.rows(a.offsets)
    terms = [] if a.weights is None else g.first_order(a.weights, rows)
    output_bias = a.bias if kind.net_input == "none" else None
    if kind.dim:
        e = g.fields(a.table, g("Gather", g.constant(a.table), rows))
        parts = []
        if a.cross is not None:
            parts.append(g("Mul", g("MatMul", g.constant(a.cross), e), e))
        if a.vectors is not None:
            parts.append(g("Mul", e, g.constant(a.vectors)))
        if parts:
            terms.append(g.column(g.total(g("Sum", *parts), 1, 2)))
        if kind.all_pairs:
            terms.append(g.total(g.pooled(e), 1, keep=1))
        if kind.net_input != "none":
            flat = g("Reshape", e, g.whole(0, a.table.shape[1] * (kind.numeric + len(a.offsets))))
            x = _net_input(g, kind, e, flat, a.first, a.second)
            terms.append(g.net(x, [*a.layers, (a.output, a.bias)]))
    return g.scorer(terms if output_bias is None else [*terms, g.constant(output_bias)])


def onnx_live(kind: Kind, compact: Compact) -> Score:
    """ONNX Runtime's best case: dead units and pairs removed, numeric fields and linear terms folded."""
    _check_size(compact.table.nbytes)
    table, dim = compact.table[:, : compact.dim], compact.dim
    g = _Graph(kind, len(compact.schema.offsets))
    rows = g.rows(compact.schema.offsets)
    terms = g.first_order(compact.table[:, dim], rows)
    if not dim:
        return g.scorer([*terms, g.constant(compact.bias)])
    taken = g("Gather", g.constant(table), rows)
    flat = g("Reshape", taken, g.whole(0, len(compact.schema.categorical) * dim))
    z = g("Concat", "values", flat, axis=1)
    if len(compact.quadratic.values):
        quadratic = compact.quadratic.dense()
        used = np.flatnonzero(quadratic.any(axis=0) | quadratic.any(axis=1))
        part = g("Gather", z, g.constant(used), axis=1)
        crossed = g("MatMul", part, g.constant(quadratic[np.ix_(used, used)]))
        terms.append(g.total(g("Mul", crossed, part), 1, keep=1))
    e = g.fields(table, taken)
    if kind.all_pairs:
        terms.append(g.total(g.pooled(e), 1, keep=1))
    if kind.net_input == "none":
        return g.scorer([*terms, g.constant(compact.bias)])
    first, second = compact.products.T.astype(np.int64)
    x = _net_input(g, kind, e, z, first, second)
    hidden = [(layer.weights.dense().T, layer.bias) for layer in compact.layers]
    return g.scorer([*terms, g.net(x, [*hidden, (compact.output[:, None], compact.bias)])])


def _net_input(g: _Graph, kind: Kind, e: str, flat: str, first: np.ndarray, second: np.ndarray) -> str:
    if kind.net_input == "inputs":
        return flat
    return g.pooled(e) if kind.net_input == "pooled" else g.products(e, first, second)


def _check_size(table_bytes: int) -> None:
    if table_bytes > _MOST_BYTES:
        raise NotImplementedError(f"a table of {table_bytes:,} bytes is over an ONNX file's 2 GB")
