"""SciPy: the compact structure by its compressed sparse rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplight_jax.serving.bench import Score
from deeplight_jax.serving.rivals.forward import Ops, live_logits
from deeplight_jax.serving.rivals.sparse import live_arrays, live_kind
from deeplight_jax.serving.structure import Compact, Csr


def scipy_csr(compact: Compact) -> Score:
    """The compact structure."""
    from scipy.sparse import csr_matrix

    def matrix(m: Csr) -> Any:
        return csr_matrix((m.values, m.indices, m.indptr), shape=(m.rows, m.columns))

    kind, arrays = live_kind(compact), live_arrays(compact, np.asarray, matrix)
    ops = Ops(np.concatenate, lambda x, kernel, bias: x @ kernel + bias, lambda x: np.maximum(x, 0))
    return lambda ids, values: live_logits(kind, arrays, ids, values, ops)
