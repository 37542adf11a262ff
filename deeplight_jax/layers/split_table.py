"""Look-up in a table whose rows are split over devices, and its gradient, without sending the table.

Ids travel to where rows are and rows back: each device of a "table" group reads those of its own block for
the group's ids, and the parts are summed. The gradient's pairs (id, cotangent) go to every device, which adds
up those of its own block in the order of the batch, so the sum is the one that a single device makes.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, PartitionSpec

from deeplight_jax.mesh import BATCH, DATA, ROWS, TABLE, WHOLE, blocks_of, mesh_here


def take_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """`table[ids]`, clipped; on a mesh from the devices that hold the rows.

    Args:
      table: f32[row, dim].
      ids: i32[batch, field]; on a mesh the batch is split over all devices, if it divides by them.
    """
    mesh = mesh_here()
    if mesh is None:
        return jnp.take(table, ids, axis=0, mode="clip")
    within = jnp.clip(ids, 0, table.shape[0] - 1)
    return _take(mesh, _even(table, mesh), within, BATCH if ids.shape[0] % mesh.size == 0 else WHOLE)


def take_first(table: jax.Array, count: int) -> jax.Array:
    """`table[:count]`, f32[count, dim]; on a mesh on every device."""
    mesh = mesh_here()
    if mesh is None or count == 0:
        return table[:count]
    rows: Any = _take(mesh, _even(table, mesh), jnp.arange(count, dtype=jnp.int32)[:, None], WHOLE)
    return rows[:, 0]


def _even(table: jax.Array, mesh: AbstractMesh) -> jax.Array:
    """The table with rows behind it, so that its blocks are of one size; nothing is sent."""
    return jnp.pad(table, ((0, -table.shape[0] % blocks_of(mesh)), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _take(mesh: AbstractMesh, table: jax.Array, ids: jax.Array, over: PartitionSpec) -> jax.Array:
    """Rows f32[batch, field, dim]; ids and rows are split as `over` says, BATCH or WHOLE."""

    def read(block: jax.Array, ids: jax.Array) -> jax.Array:
        if over == BATCH:
            ids = jax.lax.all_gather(ids, TABLE, tiled=True)
        place, mine = _in_block(block.shape[0], ids)
        rows = jnp.where(mine[..., None], jnp.take(block, place, axis=0, mode="clip"), 0)
        return jax.lax.psum_scatter(rows, TABLE, tiled=True) if over == BATCH else jax.lax.psum(rows, TABLE)

    return jax.shard_map(read, mesh=mesh, in_specs=(ROWS, over), out_specs=over)(table, ids)


def _take_forward(
    mesh: AbstractMesh, table: jax.Array, ids: jax.Array, over: PartitionSpec
) -> tuple[jax.Array, Any]:
    return _take(mesh, table, ids, over), (ids, table.shape[0])


def _take_backward(
    mesh: AbstractMesh, over: PartitionSpec, kept: Any, cotangent: jax.Array
) -> tuple[jax.Array, Any]:
    ids, rows = kept
    block_rows = rows // blocks_of(mesh)

    def add_up(ids: jax.Array, cotangent: jax.Array) -> jax.Array:
        if over == BATCH:
            ids = jax.lax.all_gather(ids, (DATA, TABLE), tiled=True)
            cotangent = jax.lax.all_gather(cotangent, (DATA, TABLE), tiled=True)
        place, mine = _in_block(block_rows, ids)
        blank = jnp.zeros((block_rows, cotangent.shape[-1]), cotangent.dtype)
        return blank.at[jnp.where(mine, place, block_rows)].add(cotangent, mode="drop")

    # each device of a block has the same sum, which JAX cannot see: check_vma=False
    gradient = jax.shard_map(add_up, mesh=mesh, in_specs=(over, over), out_specs=ROWS, check_vma=False)
    return gradient(ids, cotangent), np.zeros(ids.shape, jax.dtypes.float0)


_take.defvjp(_take_forward, _take_backward)


def _in_block(block_rows: int, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where in this device's block of rows each id is, and whether it is there."""
    place = ids - jax.lax.axis_index(TABLE) * block_rows
    return place, (place >= 0) & (place < block_rows)
