"""Updates of the table rows that a batch reads, and of no others: lazy Adam and row-wise Adagrad.

The rows and their moments are gathered, go through the same optax chain as the rest of the parameters, and
are scattered back into the tables in place. A step's cost does not depend on a table's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from deeplight_jax.config import Config
from deeplight_jax.data.schema import Batch
from deeplight_jax.errors import ConfigError
from deeplight_jax.layers.rows import by_path, rows_taken
from deeplight_jax.sparsity.algebra import is_unmasked
from deeplight_jax.sparsity.criteria import CRITERIA
from deeplight_jax.sparsity.growth import GROWTHS
from deeplight_jax.sparsity.masks import apply_masks


class Rows(NamedTuple):
    """The rows of one table that a batch reads, in slots: a row read by many look-ups has as many slots.

    Attributes:
      number: i32[slot], ascending.
      first: bool[slot], the one slot of its row that counts; others are not written back.
      reads: i32[...] for each look-up, the counting slots of the rows that it reads.
    """

    number: jax.Array
    first: jax.Array
    reads: tuple[jax.Array, ...]


def distinct(reads: Sequence[jax.Array]) -> Rows:
    """Rows of look-ups i32[...]. Cost: a sort of all row numbers read, and of each its place among them."""
    found: Any = jax.lax.platform_dependent(*reads, cpu=_found_by_search, default=_found_by_sort)
    return Rows(*found)


def _found_by_search(*reads: jax.Array) -> tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]:
    """As `Rows`; a binary search for each is a third of the time of a sort of pairs, on a CPU."""
    number = jnp.sort(jnp.concatenate([r.ravel() for r in reads]))
    return number, _firsts(number), tuple(jnp.searchsorted(number, r).astype(jnp.int32) for r in reads)


def _found_by_sort(*reads: jax.Array) -> tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]:
    """As `Rows`; a GPU sorts pairs at once, and would start sixteen kernels for a binary search."""
    unsorted = jnp.concatenate([r.ravel() for r in reads])
    at = jnp.arange(unsorted.size, dtype=jnp.int32)
    number, where = jax.lax.sort_key_val(unsorted, at)
    first = _firsts(number)
    slots = jnp.zeros_like(at).at[where].set(jax.lax.cummax(jnp.where(first, at, 0)), unique_indices=True)
    parts = jnp.split(slots, np.cumsum([r.size for r in reads])[:-1])
    return number, first, tuple(part.reshape(r.shape) for part, r in zip(parts, reads, strict=True))


def _firsts(number: jax.Array) -> jax.Array:
    """bool[slot]: whether a sorted number is the first of its kind."""
    return jnp.concatenate([jnp.ones(1, bool), number[1:] != number[:-1]])


def rows_read(model: nn.Module, params: Any, batch: Batch) -> Any:
    """`Rows` at each table, None at other parameters; structured as `params` otherwise."""
    taken = rows_taken(model, params, batch.ids, batch.values)
    rows = {path: distinct(taken[path]) if path in taken else None for path in by_path(params)}
    return unflatten_dict(rows)


def take(tree: Any, rows: Any) -> Any:
    """A tree structured as the parameters with the slots of the rows, [slot, ...], in place of each table."""
    return jax.tree.map(_take, tree, rows, is_leaf=is_unmasked)


def put(tree: Any, taken: Any, rows: Any) -> Any:
    """The inverse of `take`: the tree with the rows written back, in place where its buffers are donated."""
    return jax.tree.map(_put, tree, taken, rows, is_leaf=is_unmasked)


def handed(params: Any, rows: Any, tables: Any) -> dict[str, Any]:
    """A model's variables where each look-up is handed its rows.

    Args:
      params: of `take`.
      rows: of `rows_read`.
      tables: the whole parameters; of their tables the model asks the shapes alone.
    """
    flat, own, wholes = (by_path(tree) for tree in (rows, params, tables))
    reads = {path: r.reads for path, r in flat.items() if r is not None}
    return {
        "params": unflatten_dict({path: wholes[path] if path in reads else p for path, p in own.items()}),
        "rows": unflatten_dict({path: tuple(own[path][slots] for slots in r) for path, r in reads.items()}),
    }


def on_rows(
    chain: optax.GradientTransformation, project: optax.GradientTransformationExtraArgs, *, held: bool
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that moves only rows read, then projects onto masks.

    Args:
      chain: of the update; its state at tables may have any shape [row, ...]. It is given the slots of rows
        read as the whole of a table, so its decay and its moments know no other row.
      project: of `project_onto_masks`; an event ranks and writes whole tables.
      held: weights outside the masks are zero between events, too. A row that is not read does not move, so
        only those read are masked.

    Returns:
      `update(gradients, state, params, *, step, rows, event=None)`, which returns the parameters after it;
      gradients are structured as `take(params, rows)`. Its state is (the chain's, the projection's).
    """

    def init(params: Any) -> tuple[Any, Any]:
        return chain.init(params), project.init(params)

    def update(
        gradients: Any, state: tuple[Any, Any], params: Any, *, step: Any, rows: Any, **extra: Any
    ) -> tuple[Any, tuple[Any, Any]]:
        moments, projection = state
        before, of_moments = take(params, rows), _rows_of_state(chain, moments, rows)
        updates, moved = chain.update(gradients, take(moments, of_moments), before)
        after = optax.apply_updates(before, updates)
        if held:
            after = apply_masks(after, take(projection.masks, rows))
        params, moments = put(params, after, rows), put(moments, moved, of_moments)
        params, projection = project.update(params, projection, params, step=step, applied=True, **extra)
        return params, (moments, projection)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


class RowwiseAdagradState(NamedTuple):
    """`sums` f32[row, 1], or f32[row] of a table of one axis: of mean squared gradients."""

    sums: Any


def scale_by_rowwise_adagrad(eps: float = 1e-8) -> optax.GradientTransformation:
    """g / (sqrt(G) + eps), G of a row the sum over its updates of the mean of g^2 over the row's values.

    One f32 a row where Adam has two a value (Naumov et al. 2019, DLRM's optimizer of tables).
    """

    def init(params: Any) -> RowwiseAdagradState:
        return RowwiseAdagradState(jax.tree.map(lambda p: jnp.zeros_like(_row_means(p)), params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RowwiseAdagradState]:
        sums = jax.tree.map(lambda s, g: s + _row_means(jnp.square(g)), state.sums, updates)
        scaled = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, sums)
        return scaled, RowwiseAdagradState(sums)

    return optax.GradientTransformation(init, update)


def check_row_sparse(config: Config) -> None:
    """Refuse what needs the gradient of whole tables.

    Raises:
      ConfigError: naming the key, and what to set instead.
    """
    optim, sparsity = config.optim, config.sparsity
    if optim.embedding == "adam":
        if optim.embedding_learning_rate:
            raise ConfigError("optim.embedding_learning_rate is for optim.embedding=lazy_adam or "
                              "rowwise_adagrad; adam has one learning rate")  # fmt: skip
        return
    if config.mesh.data * config.mesh.table > 1:
        raise ConfigError(f"optim.embedding={optim.embedding} updates tables of one device; leave mesh.data "
                          "and mesh.table at 1, or set optim.embedding=adam")  # fmt: skip
    growth = GROWTHS.get(sparsity.growth)
    for key, dense in (
        ("criterion", CRITERIA[sparsity.criterion].observe is not None),
        ("growth", growth is not None and growth.needs_gradients),
    ):
        if dense:
            raise ConfigError(f"sparsity.{key}={sparsity[key]} reads the gradient of whole tables, which "
                              f"optim.embedding={optim.embedding} never makes; set one of them back to its "
                              "default")  # fmt: skip


def _take(leaf: Any, rows: Rows | None) -> Any:
    """The barrier keeps XLA from gathering again behind the write, for which it would copy the table."""
    if rows is None or is_unmasked(leaf):
        return leaf
    return jax.lax.optimization_barrier(leaf.at[rows.number].get(mode="clip"))


def _put(leaf: Any, taken: Any, rows: Rows | None) -> Any:
    if rows is None or is_unmasked(leaf):
        return taken
    written = jnp.where(rows.first, rows.number, len(leaf))  # behind the table: dropped
    return leaf.at[written].set(taken, mode="drop")


def _rows_of_state(chain: Any, state: Any, rows: Any) -> Any:
    """Structured as the chain's state: `rows` wherever it holds something structured as the parameters."""
    return optax.tree_utils.tree_map_params(
        chain, lambda _, r: r, state, rows, transform_non_params=lambda _: None, is_leaf=is_unmasked
    )


def _row_means(x: Any) -> jax.Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)), keepdims=True) if x.ndim > 1 else x
