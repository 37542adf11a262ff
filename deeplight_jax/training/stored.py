"""What Orbax writes and reads of one checkpoint: `state`, one Zarr array a leaf, and `about`, JSON.

TensorStore never frees what it converts from JSON to Python (0.1.86: `JsonToPyObject` keeps a reference to
each key and value of an object). Orbax asks for such a conversion for each array of an OCDBT store, and twice
in each save of a jax.Array, for a throughput that it logs. So arrays are stored in files of their own, and
those that one device holds are handed over as NumPy arrays: a run may then save as often as it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deeplight_jax.mesh import Placement
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.stopping import deferred

ROWS_BEHIND = "rows_behind"
"""What `about` says of a table that was split: how many rows it has more than the schema's."""


def write_state(target: Path, state: TrainState, about: Mapping[str, Any]) -> None:
    """Write a state and facts about it; where it raises, a target may be there and lack what was refused.

    Raises:
      OSError, ValueError: the disk refuses it, or another host is lost.
    """
    import orbax.checkpoint as ocp  # a third of a second, which reading masks alone need not pay

    types = ocp.type_handlers
    on_host = _waiting_handler()()
    registry = types.create_type_handler_registry(
        (np.ndarray, on_host), (jax.Array, types.get_type_handler(jax.Array))
    )
    handler = ocp.CompositeCheckpointHandler(
        state=ocp.PyTreeCheckpointHandler(use_ocdbt=False, type_handler_registry=registry),
        about=ocp.JsonCheckpointHandler(),
    )
    items = ocp.args.Composite(
        state=ocp.args.PyTreeSave(_on_host(state)), about=ocp.args.JsonSave(dict(about))
    )
    with _unlogged("Skipping merge of OCDBT"), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(target, items)
    if on_host.refused:
        raise on_host.refused[0]


def read_state(
    target: Path, like: TrainState, place: Placement | None = None
) -> tuple[TrainState, dict[str, Any]]:
    """Read both back, an OCDBT store too; each device reads the rows that it holds.

    A signal to end waits for it: Orbax would turn it into an error of the array that is being read.

    Raises:
      OSError, KeyError, ValueError: it cannot be read, or is not `like`.
    """
    import orbax.checkpoint as ocp

    with deferred(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        about = checkpointer.restore(target, ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        split = place is not None and place.mesh is not None
        held = place.padded(like) if place is not None and split else _on_one_device(like)
        changes = split or ROWS_BEHIND in about  # rows behind a table come and go
        if changes:
            _check_shapes(target / "state", like, about.get(ROWS_BEHIND, 0))
        state = ocp.args.StandardRestore(held, strict=not changes)
        return checkpointer.restore(target, ocp.args.Composite(state=state))["state"], about


@cache
def _waiting_handler() -> Any:
    """The class of Orbax' handler of NumPy arrays, but one that waits for all writes if one fails.

    Orbax' own ends its event loop at the first that fails, and TensorStore reports the rest to a loop that is
    closed: a traceback each on the terminal.
    """
    import orbax.checkpoint as ocp

    class WaitingHandler(ocp.type_handlers.NumpyHandler):
        def __init__(self) -> None:
            super().__init__(deepcopy_host_arrays=False)  # nobody writes to them meanwhile
            self.refused: list[Exception] = []

        async def _open_and_write(self, *args: Any, **options: Any) -> None:
            try:
                await super()._open_and_write(*args, **options)
            except Exception as error:  # for the caller of `save` to raise
                self.refused.append(error)

    return WaitingHandler


def _on_host(state: TrainState) -> TrainState:
    """Leaves as NumPy holds them, if one device has them all; of a split one each host writes its blocks."""
    split = any(len(x.sharding.device_set) > 1 for x in jax.tree.leaves(state) if isinstance(x, jax.Array))
    return state if split else jax.device_get(state)


def _on_one_device(like: TrainState) -> TrainState:
    """The leaves with where they go, which Orbax cannot tell of NumPy arrays nor of a mesh that is gone."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)


def _check_shapes(state: Path, like: TrainState, behind: int) -> None:
    """What Orbax does not compare where it may cut or fill: whether leaves are `like`, or a few rows longer.

    Raises:
      ValueError: they are not; the first is named.
    """
    import orbax.checkpoint as ocp
    from etils import epath

    def shapes(tree: Any) -> dict[Any, tuple[int, ...]]:
        return {k: tuple(x.shape) for k, x in ocp.tree.to_flat_dict(tree).items() if hasattr(x, "shape")}

    found = shapes(ocp.StandardCheckpointHandler().metadata(epath.Path(state)).tree)
    wanted = shapes(ocp.tree.serialize_tree(like, keep_empty_nodes=True))
    for path in {**found, **wanted}:
        have, want = found.get(path), wanted.get(path)
        longer = (want[0] + behind, *want[1:]) if want else want
        if have not in (want, longer):
            raise ValueError(f"{'.'.join(path)} is {have} there and {want} here")


@contextmanager
def _unlogged(phrase: str) -> Iterator[None]:
    """Keep a message out of Orbax's log: it warns at each save of a store that is not OCDBT's."""

    def is_other(record: logging.LogRecord) -> bool:
        return phrase not in record.getMessage()

    log = logging.getLogger("absl")
    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)
