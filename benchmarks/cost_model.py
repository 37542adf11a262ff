"""What one training step of DeepFwFM should cost, from bytes, operations and table rows: `docs/scaling.md`.

Three figures of the machine are measured apart from any step: bytes a second of a sum of two long arrays,
operations a second of a matrix product as the net's, and seconds to add one row into a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ADAM_BYTES = 32  # a weight: w, m, v read and written, its gradient written and read, four bytes each
EVENT_BYTES = 34  # a weight: five counting passes, choosing (1 byte a mask), applying
EVENT_STEPS = 10  # from one pruning event to the next
_TOGETHER = 10


class Shape(NamedTuple):
    """Sizes of a step; `dim` is k, `hidden` the units of the deep net's layers."""

    rows: int
    batch: int
    dim: int
    numeric: int
    categorical: int
    hidden: tuple[int, ...] = (400, 400, 400)

    @property
    def fields(self) -> int:
        return self.numeric + self.categorical


class Machine(NamedTuple):
    """Bytes and operations a second, and seconds a row added into a table."""

    bytes_s: float
    operations_s: float
    row_s: float


class Cost(NamedTuple):
    """Seconds of a step's parts: net and pairs; Adam over the whole table; its rows in the batch; events."""

    net_s: float
    table_s: float
    rows_s: float
    events_s: float

    @property
    def total_s(self) -> float:
        return self.net_s + self.table_s + self.rows_s + self.events_s


def operations(shape: Shape) -> int:
    """Multiplications and additions of a step, forward and backward (three times forward)."""
    inputs = (shape.fields * shape.dim, *shape.hidden)
    net = sum(i * o for i, o in zip(inputs, (*shape.hidden, 1), strict=True))
    pairs = shape.fields**2 * shape.dim
    return 6 * shape.batch * (net + pairs)


def cost(shape: Shape, machine: Machine, *, row_sparse: bool = False, pruned: bool = False) -> Cost:
    """What a step costs under exact Adam, or with an update of the batch's rows alone."""
    weights = shape.rows * shape.dim
    return Cost(
        operations(shape) / machine.operations_s,
        0.0 if row_sparse else ADAM_BYTES * weights / machine.bytes_s,
        shape.batch * shape.categorical * machine.row_s,
        EVENT_BYTES * weights / EVENT_STEPS / machine.bytes_s if pruned else 0.0,
    )


def measure_machine(shape: Shape, repeats: int = 7) -> Machine:
    """The machine's three figures, with as many threads as JAX has here; medians."""
    key = jax.random.key(0)
    long = jax.random.normal(key, (1 << 24,))
    added = _seconds(jax.jit(lambda a, b: a + 2 * b, donate_argnums=0), long, jnp.copy(long), repeats)
    left = jax.random.normal(key, (shape.batch, shape.hidden[0]))
    right = jax.random.normal(key, (shape.hidden[0], shape.hidden[0]))
    product = _seconds(
        jax.jit(lambda a, b: (a @ b)[:, : left.shape[1]], donate_argnums=0), left, right, repeats
    )
    count = shape.batch * shape.categorical
    ids = (shape.rows * jax.random.uniform(key, (count,)) ** 4).astype(jnp.int32)
    update = jnp.ones((count, shape.dim))
    scatter = jax.jit(lambda table, at: table.at[at].add(update), donate_argnums=0)
    rows = _seconds(scatter, jnp.zeros((shape.rows, shape.dim)), ids, repeats)
    return Machine(12 * long.size / added, 2 * left.shape[0] * right.size / product, rows / count)


def _seconds(step: Callable[[Any, Any], Any], state: Any, given: Any, repeats: int) -> float:
    """Median seconds of a step that takes its state's memory over; blocks after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(_TOGETHER):  # dispatched as training steps are: a GPU is not waited for each time
            state = step(state, given)
        jax.block_until_ready(state)
        times.append((time.perf_counter() - start) / _TOGETHER)
    return median(times[1:])
