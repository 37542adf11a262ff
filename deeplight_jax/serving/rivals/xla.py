"""JAX: the dense model as XLA compiles it, and the compact structure by its batched sparse rows.

XLA sizes its pool of threads by the cores it may use when JAX first computes: pin the process before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplight_jax.serving.bench import Score
from deeplight_jax.serving.rivals.forward import DenseArrays, Kind, Ops, dense_logits, live_logits
from deeplight_jax.serving.rivals.sparse import live_arrays, live_kind
from deeplight_jax.serving.structure import Compact, Csr


def jax_dense(kind: Kind, a: DenseArrays) -> Score:
    """The whole model with its zeros."""
    import jax

    placed, ops = jax.device_put(a), _ops()
    forward = jax.jit(lambda arrays, ids, values: dense_logits(kind, arrays, ids, values, ops))
    return lambda ids, values: np.asarray(forward(placed, ids, values))


def jax_bcsr(compact: Compact) -> Score:
    """The compact structure."""
    import jax
    from jax.experimental.sparse import BCSR

    def matrix(m: Csr) -> Any:
        return BCSR(tuple(map(jax.device_put, (m.values, m.indices, m.indptr))), shape=(m.rows, m.columns))

    kind, ops = live_kind(compact), _ops()
    placed = live_arrays(compact, jax.device_put, matrix)
    forward = jax.jit(lambda arrays, ids, values: live_logits(kind, arrays, ids, values, ops))
    return lambda ids, values: np.asarray(forward(placed, ids, values))


def _ops() -> Ops:
    import jax
    import jax.numpy as jnp

    return Ops(jnp.concatenate, lambda x, kernel, bias: x @ kernel + bias, jax.nn.relu)
