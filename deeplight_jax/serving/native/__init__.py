"""The native engine, where it was built: `load` hands a compact structure to the C++ kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplight_jax.serving.structure import Compact, Csr
from deeplight_jax.serving.tables import FORMATS, ROW_FLOATS

_deeplight: Any
try:
    from deeplight_jax.serving.native import _deeplight  # pyright: ignore[reportAttributeAccessIssue]

    _deeplight.learn(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32))
except ImportError:  # no compiler when the package was installed
    _deeplight = None

LEVELS = ("avx512", "avx2", "portable")
OUT_OF_MEMORY = 3  # DL_MEMORY of deeplight.h
_NET_INPUT = {"none": 0, "inputs": 1, "pooled": 2, "products": 3}  # DL_NET_... of deeplight.h
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Native:
    """A structure in the native engine; threads may share it.

    Attributes:
      level: the vector level that it uses.
    """

    level: str
    _handle: Any

    def score(
        self, ids: np.ndarray, values: np.ndarray, out: np.ndarray, probabilities: bool, threads: int = 1
    ) -> int:
        """Fills f32[row] by C-contiguous i32[row, categorical] and f32[row, numeric].

        Returns:
          0, or another number if a row cannot be scored.

        Raises:
          TypeError, ValueError: another dtype or shape, or not contiguous.
        """
        return _deeplight.score(self._handle, ids, values, out, probabilities, threads)

    def scorer(self, probabilities: bool, threads: int, otherwise: Score) -> Score:
        """The quickest way from Python: a built-in function of ids and values to f32[row].

        It checks NumPy arrays as `Engine.score` wants them and scores; whatever else it is given, and
        rows that cannot be scored, it hands on to `otherwise`.
        """
        return _deeplight.direct(
            self._handle, probabilities, threads, otherwise, np.empty, np.dtype(np.float32)
        )

    def latencies_ns(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Nanoseconds i64[row] of scoring each row by a call of its own, taken inside C by its steady clock.

        A reading of the clock, some 20 ns, is part of each.

        Raises:
          ValueError: the rows do not fit or cannot be scored.
        """
        out = np.empty(len(ids), np.int64)
        if code := _deeplight.latencies(self._handle, ids, values, out):
            raise ValueError(f"a row cannot be scored (code {code})")
        return out


def available() -> bool:
    """Whether the native engine was built."""
    return _deeplight is not None


def load(compact: Compact, level: str | None = None) -> Native:
    """A structure in the native engine.

    Args:
      compact: checked; its table is read in place, everything else is copied.
      level: one of `LEVELS`; by default the best of this processor.

    Raises:
      ValueError: the level is not there, or the structure points outside itself.
    """
    about = (
        len(compact.schema.numeric),
        compact.dim,
        -(-(compact.dim + 1) // ROW_FLOATS) * ROW_FLOATS,
        float(compact.bias[0]),
        int(compact.all_pairs),
        _NET_INPUT[compact.net_input],
        FORMATS.index(compact.table_format),
    )
    handle = _deeplight.load(
        level,
        np.array([f.size for f in compact.schema.categorical], np.int32),
        compact.table,
        compact.table_index,
        about,
        _csr(compact.quadratic),
        compact.products,
        tuple((_csr(layer.weights), layer.bias) for layer in compact.layers),
        compact.output,
    )
    return Native(_deeplight.level(handle), handle)


def _csr(matrix: Csr) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    return matrix.indptr, matrix.indices, matrix.values, matrix.columns
