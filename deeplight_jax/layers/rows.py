"""Which table rows a batch reads: a layer declares them, and may be handed them in place of its table.

A row-sparse training step asks a model for the rows that a batch reads (collection "taken"), gathers each
once and hands them in (collection "rows"): it differentiates by these rows, never by a whole table.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict

Path: TypeAlias = tuple[str, ...]
"""Of a parameter in the nested dict of them, as ("embedding", "table")."""
Tables: TypeAlias = frozenset[Path]
Reads: TypeAlias = tuple[jax.Array, ...]
"""i32[...] each: numbers of the rows that one look-up reads."""


def given_rows(module: nn.Module, table: str, *reads: jax.Array) -> Any:
    """The rows handed in for the look-ups of a table; None where the layer is to read the table itself.

    Args:
      module: that owns the table.
      table: name of the parameter; rows are its first axis.
      *reads: i32[...] each, row numbers within the table: all that this call reads of it.

    Returns:
      f32[..., dim] for each of `reads`, or None.

    Raises:
      ValueError: the same table is read by two calls; such a model cannot be trained row-sparse.
    """
    module.sow("taken", table, reads, init_fn=lambda: None, reduce_fn=_once)
    return module.get_variable("rows", table) if module.has_variable("rows", table) else None


def rows_taken(model: nn.Module, params: Any, ids: jax.Array, values: jax.Array) -> dict[Path, Reads]:
    """Row numbers that a batch reads, by the table's path; under `jit` the logits cost nothing."""
    _, found = model.apply({"params": params}, ids, values, mutable=["taken"])
    return by_path(found.get("taken", {}))


def by_path(tree: Any) -> dict[Path, Any]:
    """Leaves of a nested dict."""
    return cast("dict[Path, Any]", flatten_dict(tree))


def _once(before: Reads | None, reads: Reads) -> Reads:
    if before is not None:
        raise ValueError("a table is read by two calls of its layer; train with optim.embedding=adam")
    return reads
