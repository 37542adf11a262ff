"""What a model weighs: parameters, non-zeros and bytes, by component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplight_jax.sparsity.components import Labels
from deeplight_jax.sparsity.masks import Count, count_components


def sparsity_report(params: Any, labels: Labels, targets: Mapping[str, float]) -> dict[str, Any]:
    """Counts of a projected model, as they stand in `result.json`.

    Args:
      params: projected parameters.
      labels: their component codes.
      targets: target rate by code of the components that were pruned (0: to masks given from outside).

    Returns:
      `params_total`, `params_nonzero`, `bytes` and `components: {code: {target, rate, total, nonzero}}`.
      Bytes are of float32 values: all of a component that `targets` lack, else the non-zero ones and one
      mask bit for each weight.
    """
    counts = count_components(params, labels)
    prunable = {code: c for code, c in counts.items() if code != "other"}
    total = sum(c.total for c in counts.values())
    nonzero = sum(c.nonzero for c in counts.values())
    pruned = {code: c for code, c in prunable.items() if code in targets}
    return {
        "params_total": total,
        "params_nonzero": nonzero,
        "bytes": _bytes(counts, pruned),
        "components": {
            code: {"target": targets.get(code, 0.0), "rate": c.rate, "total": c.total, "nonzero": c.nonzero}
            for code, c in prunable.items()
        },
    }


def _bytes(counts: Mapping[str, Count], pruned: Mapping[str, Count]) -> int:
    dense = sum(4 * c.total for code, c in counts.items() if code not in pruned)
    return dense + sum(4 * c.nonzero + -(-c.total // 8) for c in pruned.values())
