"""The compact structure in other libraries' sparse matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deeplight_jax.serving.rivals.forward import Kind, LiveArrays
from deeplight_jax.serving.structure import Compact, Csr, from_entries


def live_kind(compact: Compact) -> Kind:
    return Kind(len(compact.schema.numeric), compact.dim, compact.all_pairs, compact.net_input)


def live_arrays(
    compact: Compact, array: Callable[[np.ndarray], Any], matrix: Callable[[Csr], Any]
) -> LiveArrays:
    """A structure's arrays, converted by `array` and `matrix`."""
    first, second = compact.products.T.astype(np.int64)
    return LiveArrays(
        table=array(compact.table),
        offsets=array(compact.schema.offsets),
        quadratic=matrix(_transposed(compact.quadratic)) if len(compact.quadratic.values) else None,
        first=array(first),
        second=array(second),
        layers=tuple((matrix(layer.weights), array(layer.bias[:, None])) for layer in compact.layers),
        output=array(compact.output),
        bias=array(compact.bias),
    )


def _transposed(m: Csr) -> Csr:
    rows = np.repeat(np.arange(m.rows), np.diff(m.indptr))
    return from_entries(m.indices, rows, m.values, (m.columns, m.rows))
