"""Where arrays live on several devices: table rows in blocks over "table", a batch's rows over all devices.

A run's arrays keep their true shapes in every computation. Only between jitted calls a split table has a few
rows more, so that its blocks are of one size (`pad`, `fit`): no mask, count or threshold ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from deeplight_jax.errors import ConfigError

DATA, TABLE = "data", "table"  # axes of the mesh
BATCH = PartitionSpec((DATA, TABLE))  # rows of a batch: over every device
ROWS = PartitionSpec(TABLE)  # rows of a table: in blocks, each on `mesh.data` devices
WHOLE = PartitionSpec()
_REMEDY = "to try it on a CPU: XLA_FLAGS=--xla_force_host_platform_device_count="


@dataclass(frozen=True)
class Placement:
    """A mesh and the number of table rows that are split over it; without a mesh everything passes as it is.

    Attributes:
      mesh: axes "data" and "table"; None: one device, wherever JAX puts things.
      rows: of the flat table. Every matrix with so many rows (moments, masks, first-order weights) is split;
        where another one has as many by chance, that is as right.
    """

    mesh: Mesh | None
    rows: int

    @property
    def devices(self) -> int:
        """How many compute."""
        return 1 if self.mesh is None else self.mesh.size

    def shardings(self, like: Any) -> Any:
        """A sharding for each leaf of a tree of true shapes."""
        return jax.tree.map(self._sharding, like)

    def padded(self, like: Any) -> Any:
        """ShapeDtypeStruct of each leaf as it is held between calls, with its sharding."""
        if self.mesh is None:
            return like
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (x.shape[0] + self.rows_behind, *x.shape[1:]) if self._is_split(x) else x.shape,
                x.dtype,
                sharding=self._sharding(x),
            ),
            like,
        )

    def pad(self, tree: Any) -> Any:
        """Leaves of true shapes with zero rows behind a split table's."""
        if self.mesh is None or not self.rows_behind:
            return tree
        below = (0, self.rows_behind)
        return jax.tree.map(lambda x: jnp.pad(x, (below, (0, 0))) if self._is_split(x) else x, tree)

    def put(self, tree: Any) -> Any:
        """Arrays of true shapes, the same on every host, as they are held between calls."""
        if self.mesh is None:
            return tree
        return jax.tree.map(self._put, tree)

    def gather(self, tree: Any, like: Any) -> Any:
        """Arrays as NumPy holds them, whole on every host, of the true shapes of `like`."""
        if self.mesh is None:
            return tree
        return jax.tree.map(lambda x, s: _on_host(x)[: s.shape[0]] if s.ndim else _on_host(x), tree, like)

    def batch(self, batch: Any, size: int) -> Any:
        """A batch of `size` rows over all devices, from the rows of it that this host reads (`rows_here`)."""
        if self.mesh is None:
            return batch
        over = NamedSharding(self.mesh, BATCH)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(over, x, (size, *x.shape[1:])), batch
        )

    def rows_here(self, size: int) -> slice:
        """Rows of a batch of `size` that this host's devices compute.

        Raises:
          ConfigError: they are not side by side.
        """
        if self.mesh is None:
            return slice(0, size)
        parts = NamedSharding(self.mesh, BATCH).addressable_devices_indices_map((size,))
        spans = {s[0].indices(size)[:2] for s in parts.values() if s is not None}
        first, last = min(a for a, _ in spans), max(b for _, b in spans)
        if sum(b - a for a, b in spans) != last - first:
            raise ConfigError("this host's devices are not neighbours on the mesh; give each host as many")
        return slice(first, last)

    def jit(self, function: Callable[..., Any], inputs: Any, outputs: Any, **options: Any) -> Any:
        """`jax.jit` on the mesh, with explicit shardings in and out, in which layers know the mesh."""
        if self.mesh is None:
            return jax.jit(function, **options)
        return jax.jit(self.within(function), in_shardings=inputs, out_shardings=outputs, **options)

    def within(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, in which `mesh_here` finds the mesh while it is traced."""
        mesh = self.mesh
        if mesh is None:
            return function

        def traced(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*args)

        return traced

    @property
    def everywhere(self) -> Any:
        """The sharding of what every device holds whole."""
        return None if self.mesh is None else NamedSharding(self.mesh, WHOLE)

    @property
    def over_batch(self) -> Any:
        """The sharding of a batch."""
        return None if self.mesh is None else NamedSharding(self.mesh, BATCH)

    @property
    def rows_behind(self) -> int:
        """Rows that a split table is held with beyond its own."""
        return 0 if self.mesh is None else -self.rows % self.mesh.shape[TABLE]

    def _is_split(self, leaf: Any) -> bool:
        return self.mesh is not None and leaf.ndim == 2 and leaf.shape[0] == self.rows

    def _sharding(self, leaf: Any) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, ROWS if self._is_split(leaf) else WHOLE)

    def _put(self, leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        target = self._sharding(whole)
        if self._is_split(whole):
            whole = np.pad(whole, ((0, self.rows_behind), (0, 0)))
        return jax.make_array_from_callback(whole.shape, target, lambda index: whole[index])


def fit(tree: Any, like: Any) -> Any:
    """Leaves without the rows that `pad` put behind them, of the true shapes of `like`."""
    return jax.tree.map(lambda x, s: x if x.shape == s.shape else x[: s.shape[0]], tree, like)


def place(data: int, table: int, rows: int, batch_size: int) -> Placement:
    """Everything over `data` x `table` devices, the table in `table` blocks of its rows.

    Raises:
      ConfigError: there are fewer devices, or devices of other hosts would be left out, or the batch does not
        divide by them.
    """
    wanted = data * table
    if wanted == 1 and jax.process_count() == 1:
        return Placement(None, rows)
    found, asked = jax.devices(), f"mesh.data={data} times mesh.table={table}"
    if wanted > len(found):
        raise ConfigError(f"{asked} is {wanted} devices, and there are {len(found)} ({_REMEDY}{wanted})")
    if jax.process_count() > 1 and wanted != len(found):
        raise ConfigError(f"{asked} is {wanted} devices, and the hosts have {len(found)}: use all of them")
    if batch_size % wanted:
        raise ConfigError(f"data.batch_size={batch_size} does not divide by the {wanted} devices of {asked}")
    devices = np.array(found[:wanted]).reshape(data, table)
    return Placement(Mesh(devices, (DATA, TABLE), axis_types=(AxisType.Auto,) * 2), rows)


def mesh_here() -> AbstractMesh | None:
    """The abstract mesh of the computation that is traced, or None: one device, or not of `Placement.jit`."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if not mesh.empty and TABLE in mesh.shape else None


def blocks_of(mesh: AbstractMesh) -> int:
    """In how many blocks a table's rows are split."""
    return mesh.axis_sizes[mesh.axis_names.index(TABLE)]


def _on_host(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable and not x.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        return np.asarray(process_allgather(x, tiled=True))
    return np.asarray(x)
