"""States of several members stacked along an axis, and one compiled step over all of them.

The member axis lies over the devices; on each device its members are computed one after the other
(`lax.map`), all at once (`vmap`) or some at once. `step` is one scalar for all, so a pruning event stays a
branch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deeplight_jax.data.schema import Batch
from deeplight_jax.sparsity.algebra import is_unmasked
from deeplight_jax.sparsity.churn import Churn, no_churn, of_components
from deeplight_jax.sparsity.components import Component, Labels
from deeplight_jax.sparsity.criteria import blank_memory
from deeplight_jax.sparsity.masks import full_masks
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.step import TrainStep

Program = Callable[[TrainState, Batch], tuple[TrainState, jax.Array]]
AXIS = "member"
_SHARE = 0.8  # of free memory that members may fill
_COPIES = 3  # of a member's state at the peak: the state, its successor, gradient and updates


class Place(NamedTuple):
    """Where members are computed.

    Attributes:
      mesh: one axis over the devices.
      per_device: members on each device.
    """

    mesh: Mesh
    per_device: int

    @property
    def size(self) -> int:
        """Members of a stack, padding included."""
        return self.mesh.size * self.per_device


def plan_place(members: int, member_bytes: int, per_device: int = 0, whole: int = 0) -> Place:
    """Devices and members on each: as many as memory holds, spread evenly over waves of equal size.

    Args:
      members: how many there are in all.
      member_bytes: of one member's state.
      per_device: most members on a device; 0: what its memory holds.
      whole: how many the group has of which these are left. On a CPU those that ran beside others on their
        device do so again, if need be beside padding: a stack of one rounds otherwise, by `vmap` as by a loop
        of one turn, which XLA inlines.
    """
    devices = jax.local_devices()[:members]
    most = per_device or max(1, int(_SHARE * _free_bytes(devices) / (_COPIES * member_bytes)))
    waves = -(-members // (most * len(devices)))
    place = Place(Mesh(np.array(devices), (AXIS,)), -(-members // (waves * len(devices))))
    alone = place.per_device == 1 and most > 1 and whole > members and is_cpu(place)
    if alone and plan_place(whole, member_bytes, per_device).per_device > 1:
        return Place(Mesh(np.array(devices[: -(-members // 2)]), (AXIS,)), 2)
    return place


def is_cpu(place: Place) -> bool:
    """Whether its devices are processors: there members are best computed in turn (benchmarks/sweep.py)."""
    return place.mesh.devices.flat[0].platform == "cpu"


def stack(states: Sequence[TrainState], place: Place) -> TrainState:
    """States of one step along a leading axis, spread over the devices; the last one fills the rest up."""
    filled = [*states, *[states[-1]] * (place.size - len(states))]
    sharding = NamedSharding(place.mesh, PartitionSpec(AXIS))

    def put(*leaves: Any) -> jax.Array:
        return jax.device_put(np.stack([np.asarray(leaf) for leaf in leaves]), sharding)

    rest = [(s.seed, s.params, s.opt_state) for s in filled]
    seed, params, opt_state = jax.tree.map(put, *rest)
    step = jax.device_put(states[0].step, NamedSharding(place.mesh, PartitionSpec()))
    return TrainState(step=step, seed=seed, params=params, opt_state=opt_state)


def take(state: TrainState, index: int, place: Place) -> TrainState:
    """One member's state out of a stack, on the first device."""
    rest = (state.seed, state.params, state.opt_state)
    seed, params, opt_state = take_part(rest, index, place)
    return TrainState(step=jnp.int32(state.step), seed=seed, params=params, opt_state=opt_state)


def take_part(stacked: Any, index: int, place: Place) -> Any:
    """One member's part out of a stacked tree, on the first device."""
    device, row = divmod(index, place.per_device)

    def local(array: jax.Array) -> jax.Array:
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return shards[device].data

    return jax.device_put(_row_of(jax.tree.map(local, stacked), row), jax.local_devices()[0])


def make_program(step: TrainStep, place: Place, at_once: int) -> Program:
    """The jitted step over a stack; it compiles once and donates the stack.

    Args:
      step: of one member.
      place: where.
      at_once: members computed together on a device; 1 is `lax.map`, all of them `vmap`.

    Returns:
      `program(stack, batch) -> (stack, losses f32[member])`; every member sees the same batch.
    """

    def local(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        def one(own: tuple[Any, Any, Any]) -> tuple[tuple[Any, Any, Any], jax.Array]:
            seed, params, opt_state = own
            after, loss = step(state.replace(seed=seed, params=params, opt_state=opt_state), batch)
            return (after.seed, after.params, after.opt_state), loss

        rest = (state.seed, state.params, state.opt_state)
        if at_once >= place.per_device:
            (seed, params, opt_state), losses = jax.vmap(one)(rest)
        else:
            batch_size = at_once if at_once > 1 else None
            (seed, params, opt_state), losses = jax.lax.map(one, rest, batch_size=batch_size)
        return TrainState(step=state.step + 1, seed=seed, params=params, opt_state=opt_state), losses

    several, all_alike = PartitionSpec(AXIS), PartitionSpec()
    spec: Any = TrainState(step=all_alike, seed=several, params=several, opt_state=several)  # pyright: ignore
    mapped = jax.shard_map(
        local, mesh=place.mesh, in_specs=(spec, all_alike), out_specs=(spec, several), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def known_layout(place: Place) -> int:
    """Members at once where nothing is measured: one on a CPU, all elsewhere."""
    return 1 if is_cpu(place) else place.per_device


def fastest_layout(step: TrainStep, place: Place, state: TrainState, batch: Batch, steps: int = 5) -> int:
    """Members at once that take least time here: one, a few or all, each compiled and timed on a copy."""
    candidates = sorted({1, max(1, place.per_device // 4), place.per_device})
    if len(candidates) == 1:
        return candidates[0]
    seconds = {n: _seconds(make_program(step, place, n), state, batch, steps) for n in candidates}
    return min(seconds, key=lambda n: seconds[n])


def widen(state: TrainState, labels: Labels, components: Sequence[Component]) -> TrainState:
    """The state with masks, targets and churn of all the components: what it lacks keeps all, target 0."""
    *others, own = state.opt_state
    full = full_masks(state.params, labels, components)
    nothing = no_churn(components)
    churn = Churn(nothing.pruned | own.churn.pruned, nothing.regrown | own.churn.regrown, own.churn.events)
    memory = dict(own.memory)
    if "scores" in memory:
        memory["scores"] = _filled(memory["scores"], blank_memory(full))
    wide = own._replace(
        masks=_filled(own.masks, full),
        targets={c.code: own.targets.get(c.code, jnp.float32(0)) for c in components},
        churn=churn,
        memory=memory,
    )
    return state.replace(opt_state=(*others, wide))


def narrow(state: TrainState, labels: Labels, components: Sequence[Component]) -> TrainState:
    """The state with masks, targets and churn of these components alone, as a run of its own has them."""
    codes = {c.code for c in components}
    *others, own = state.opt_state

    def of_codes(tree: Any) -> Any:
        return jax.tree.map(lambda label, x: x if label in codes else optax.MaskedNode(), labels, tree)

    memory = dict(own.memory)
    if "scores" in memory:
        memory["scores"] = of_codes(memory["scores"])
    thin = own._replace(
        masks=of_codes(own.masks),
        targets={code: target for code, target in own.targets.items() if code in codes},
        churn=of_components(own.churn, components),
        memory=memory,
    )
    return state.replace(opt_state=(*others, thin))


def nbytes(tree: Any) -> int:
    """Bytes of a pytree of arrays or shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@jax.jit
def _row_of(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda x: x[row], tree)


def _filled(tree: Any, default: Any) -> Any:
    """The tree with the default's leaves where it has none."""
    return jax.tree.map(lambda x, d: d if is_unmasked(x) else x, tree, default, is_leaf=is_unmasked)


def _seconds(program: Program, state: TrainState, batch: Batch, steps: int) -> float:
    copy = jax.tree.map(jnp.copy, state)
    copy, _ = jax.block_until_ready(program(copy, batch))  # compiles
    began = time.perf_counter()
    for _ in range(steps):
        copy, _ = program(copy, batch)
    jax.block_until_ready(copy)
    return time.perf_counter() - began


def _free_bytes(devices: Sequence[Any]) -> int:
    """Free memory of a device; CPU devices share the machine's."""
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    except (ValueError, OSError):
        return (4 << 30) // len(devices)  # unknown
