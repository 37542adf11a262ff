"""Other ways to serve the same DeepFwFM, for `engine.py`: each maps rows to logits, on one thread.

A rival is made of the compact structure and the projected parameters; None where its library is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from deeplight_jax.data.schema import field_pairs
from deeplight_jax.serving.structure import Compact

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")


def upper(compact: Compact, params: Any) -> np.ndarray:
    """R as f32[field, field], above the diagonal."""
    n = compact.schema.num_fields
    out = np.zeros((n, n), np.float32)
    r = np.asarray(params["fwfm"]["r"])
    first, second = field_pairs(n)
    out[first, second] = r if r.ndim == 1 else (0.5 * (r + r.T))[first, second]
    return out


def linear(params: Any) -> np.ndarray:
    """f32[field, dim]: w_f v_f."""
    terms = params["fwfm"]
    return np.asarray(terms["v"]) * np.asarray(terms.get("field_weight", np.ones(len(terms["v"]))))[:, None]


def dense_layers(params: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    deep = params["deep"]
    hidden = [deep[f"hidden_{i}"] for i in range(len(deep) - 1)]
    last = np.asarray(deep["output"]["kernel"])
    layers = [(np.asarray(h["kernel"]), np.asarray(h["bias"])) for h in hidden]
    return [*layers, (last, np.full(1, np.asarray(params["fwfm"]["bias"]), np.float32))]


class Graph:
    """An ONNX graph under construction."""

    def __init__(self, compact: Compact):
        from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

        self.helper, self.numpy, self.nodes, self.constants = helper, numpy_helper, [], []
        schema = compact.schema
        self.inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT32, [None, len(schema.categorical)]),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, [None, len(schema.numeric)]),
        ]
        self.output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 1])

    def constant(self, array: np.ndarray) -> str:
        self.constants.append(self.numpy.from_array(np.ascontiguousarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def total(self, x: str, axes: list[int]) -> str:
        return self("ReduceSum", x, self.constant(np.array(axes, np.int64)), keepdims=0)

    def mlp(self, x: str, layers: list[tuple[np.ndarray, np.ndarray]]) -> str:
        for i, (kernel, bias) in enumerate(layers):
            x = self("Gemm", x, self.constant(kernel), self.constant(bias))
            x = self("Relu", x) if i + 1 < len(layers) else x
        return x

    def session(self, result: str) -> Callable[[np.ndarray, np.ndarray], Any]:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        self.nodes.append(self.helper.make_node("Identity", [result], ["logits"]))
        graph = self.helper.make_graph(self.nodes, "model", self.inputs, [self.output], self.constants)
        model = self.helper.make_model(graph, opset_imports=[self.helper.make_opsetid("", 18)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda ids, values: session.run(None, {"ids": ids, "values": values})[0]


def onnx_dense(compact: Compact, params: Any) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """The whole model with its zeros, as the trained model would be exported."""
    try:
        g = Graph(compact)
        numeric, table = len(compact.schema.numeric), np.asarray(params["embedding"]["table"])
        rows = g("Add", "ids", g.constant(compact.schema.offsets))
        taken = g("Gather", g.constant(table), rows)
        scaled = g("Mul", g("Unsqueeze", "values", g.constant(np.array([2]))), g.constant(table[:numeric]))
        e = g("Concat", scaled, taken, axis=1)
        crossed = g("Mul", g("MatMul", g.constant(upper(compact, params).T), e), e)
        both = g("Add", crossed, g("Mul", e, g.constant(linear(params))))
        flat = g("Reshape", e, g.constant(np.array([0, e_size(compact)])))
        wide = g("Unsqueeze", g.total(both, [1, 2]), g.constant(np.array([1])))
        return g.session(g("Add", g.mlp(flat, dense_layers(params)), wide))
    except ImportError:
        return None


def onnx_live(compact: Compact, params: Any) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """ONNX Runtime's best case: dead units and pairs removed, numeric fields and linear terms folded."""
    try:
        g = Graph(compact)
        numeric, dim = len(compact.schema.numeric), compact.dim
        taken = g(
            "Gather", g.constant(compact.table[:, :dim]), g("Add", "ids", g.constant(compact.schema.offsets))
        )
        first = g(
            "Gather", g.constant(compact.table[:, dim]), g("Add", "ids", g.constant(compact.schema.offsets))
        )
        flat = g("Reshape", taken, g.constant(np.array([0, compact.inputs - numeric])))
        z = g("Concat", "values", flat, axis=1)
        quadratic = compact.quadratic.dense()
        used = np.flatnonzero(quadratic.any(axis=0) | quadratic.any(axis=1))
        part = g("Gather", z, g.constant(used), axis=1)
        product = g("Mul", g("MatMul", part, g.constant(quadratic[np.ix_(used, used)])), part)
        own = g("MatMul", "values", g.constant(compact.table[:numeric, dim : dim + 1]))
        layers = [(layer.weights.dense().T, layer.bias) for layer in compact.layers]
        net = g.mlp(z, [*layers, (compact.output[:, None], compact.bias)])
        terms = g("Add", g.total(product, [1]), g.total(first, [1]))
        wide = g("Add", g("Unsqueeze", terms, g.constant(np.array([1]))), own)
        return g.session(g("Add", net, wide))
    except ImportError:
        return None


def e_size(compact: Compact) -> int:
    return compact.schema.num_fields * compact.dim


def scipy_csr(compact: Compact, _: Any) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """The same sparse structure by SciPy's compressed rows."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        return None

    def matrix(m: Any) -> Any:
        return csr_matrix((m.values, m.indices, m.indptr), shape=(m.rows, m.columns))

    numeric, dim = len(compact.schema.numeric), compact.dim
    quadratic = matrix(compact.quadratic).T.tocsr()
    layers = [(matrix(layer.weights), layer.bias[:, None]) for layer in compact.layers]

    def score(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        taken = compact.table[ids + compact.schema.offsets]
        z = np.concatenate([values, taken[:, :, :dim].reshape(len(ids), -1)], axis=1).T
        out = compact.bias + taken[:, :, dim].sum(axis=1) + values @ compact.table[:numeric, dim]
        out += np.einsum("ib,ib->b", quadratic @ z, z)
        x = z
        for weights, bias in layers:
            x = np.maximum(weights @ x + bias, 0)
        return out + compact.output @ x

    return score


def jax_dense(compact: Compact, params: Any) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """The trained model as XLA compiles it."""
    import jax

    from deeplight_jax.config import default_config, override
    from deeplight_jax.models import build_model

    hidden = tuple(kernel.shape[1] for kernel, _ in dense_layers(params)[:-1])
    config = override(default_config(), {"model.hidden": hidden, "model.embedding_dim": compact.dim})
    model = build_model(config, compact.schema)
    placed = jax.device_put(params)
    forward = jax.jit(lambda p, ids, values: model.apply({"params": p}, ids, values))
    return lambda ids, values: np.asarray(forward(placed, ids, values))


def torch_dense(compact: Compact, params: Any) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """The same, by PyTorch eager."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    torch.set_num_threads(1)
    tensor, numeric = torch.from_numpy, len(compact.schema.numeric)
    table, offsets = tensor(np.array(params["embedding"]["table"])), tensor(compact.schema.offsets)
    cross, weights = tensor(upper(compact, params).T.copy()), tensor(linear(params).astype(np.float32))
    layers = [(tensor(np.array(k.T)), tensor(np.array(b))) for k, b in dense_layers(params)]

    def score(ids: np.ndarray, values: np.ndarray) -> Any:
        with torch.inference_mode():
            e = torch.cat([tensor(values)[:, :, None] * table[:numeric], table[tensor(ids) + offsets]], 1)
            out = ((cross @ e) * e + e * weights).sum((1, 2))
            x = e.reshape(len(ids), -1)
            for i, (kernel, bias) in enumerate(layers):
                x = torch.nn.functional.linear(x, kernel, bias)
                x = torch.relu(x) if i + 1 < len(layers) else x
            return (x[:, 0] + out).numpy()

    return score


RIVALS = {
    "onnxruntime-dense": onnx_dense,
    "onnxruntime-live": onnx_live,
    "scipy-csr": scipy_csr,
    "jax-dense": jax_dense,
    "torch-dense": torch_dense,
}
