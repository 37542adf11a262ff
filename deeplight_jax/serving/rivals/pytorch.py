"""PyTorch on the processor: eager, compiled, and by its own compressed sparse rows; one thread."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from deeplight_jax.serving.bench import Score
from deeplight_jax.serving.rivals.forward import DenseArrays, Kind, Ops, dense_logits, live_logits
from deeplight_jax.serving.rivals.sparse import live_arrays, live_kind
from deeplight_jax.serving.structure import Compact, Csr


def torch_dense(kind: Kind, a: DenseArrays) -> Score:
    """The whole model with its zeros, operation by operation."""
    return _scorer(_dense(kind, a))


def torch_compiled(kind: Kind, a: DenseArrays) -> Score:
    """The same, fused by `torch.compile`."""
    import torch  # pyright: ignore[reportMissingImports]

    return _scorer(torch.compile(_dense(kind, a)))


def torch_csr(compact: Compact) -> Score:
    """The compact structure."""
    import torch  # pyright: ignore[reportMissingImports]

    def matrix(m: Csr) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support")
            parts = (_tensor(m.indptr), _tensor(m.indices), _tensor(m.values))
            return torch.sparse_csr_tensor(*parts, size=(m.rows, m.columns), check_invariants=True)

    kind, arrays, ops = live_kind(compact), live_arrays(compact, _tensor, matrix), _ops()
    return _scorer(lambda ids, values: live_logits(kind, arrays, ids, values, ops))


def _dense(kind: Kind, a: DenseArrays) -> Callable[[Any, Any], Any]:
    layers = tuple((_tensor(kernel.T), _tensor(bias)) for kernel, bias in a.layers)  # as its layers hold them
    others = {name: _tensor(x) for name, x in a._asdict().items() if isinstance(x, np.ndarray)}
    tensors, ops = a._replace(layers=layers, **others), _ops()
    return lambda ids, values: dense_logits(kind, tensors, ids, values, ops)


def _ops() -> Ops:
    import torch  # pyright: ignore[reportMissingImports]

    return Ops(torch.cat, torch.nn.functional.linear, torch.relu)


def _tensor(array: np.ndarray) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    return torch.from_numpy(np.array(array, order="C"))


def _scorer(logits: Callable[[Any, Any], Any]) -> Score:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)

    def score(ids: np.ndarray, values: np.ndarray) -> Any:
        with torch.inference_mode():
            return logits(torch.from_numpy(ids), torch.from_numpy(values)).numpy()

    return score
