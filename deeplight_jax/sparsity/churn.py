"""How masks move while they train: at each event, how many kept weights were pruned and pruned ones kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.sparsity.algebra import is_unmasked
from deeplight_jax.sparsity.components import Component, Labels, Masks
from deeplight_jax.sparsity.search import count_marks


class Churn(NamedTuple):
    """Counts since the run began, by component code; u32[2] each, low and high word.

    Attributes:
      pruned: times that a kept weight was pruned.
      regrown: times that a pruned weight was kept again.
      events: i32[], how many events there were.
    """

    pruned: dict[str, jax.Array]
    regrown: dict[str, jax.Array]
    events: jax.Array


class Moves(NamedTuple):
    """`Churn` of one component as numbers."""

    pruned: int
    regrown: int


def no_churn(components: Sequence[Component]) -> Churn:
    """Nothing has moved yet."""
    pruned, regrown = ({c.code: jnp.zeros(2, jnp.uint32) for c in components} for _ in range(2))
    return Churn(pruned, regrown, jnp.int32(0))  # no buffer twice: a state is donated whole


def of_components(churn: Churn, components: Sequence[Component]) -> Churn:
    """The counts of these components alone."""
    codes = [c.code for c in components]
    pruned, regrown = ({code: counts[code] for code in codes} for counts in (churn.pruned, churn.regrown))
    return Churn(pruned, regrown, churn.events)


def count_event(churn: Churn, before: Masks, after: Masks, labels: Labels) -> Churn:
    """Counts with one more event; one read of both masks, where they are.

    Args:
      churn: so far.
      before: masks of the event before.
      after: masks of this event, of the same structure.
      labels: component codes, structured as the masks.
    """
    pruned, regrown = dict(churn.pruned), dict(churn.regrown)
    old, treedef = jax.tree.flatten(before, is_leaf=is_unmasked)
    for keep, now, code in zip(old, treedef.flatten_up_to(after), treedef.flatten_up_to(labels), strict=True):
        if not is_unmasked(keep):
            gone, back = _count_moves(keep, now)
            pruned[code], regrown[code] = _add(pruned[code], gone), _add(regrown[code], back)
    return Churn(pruned, regrown, churn.events + 1)


def read_churn(churn: Churn) -> tuple[int, dict[str, Moves]]:
    """Events, and moves by component code, on the host."""
    found: Any = jax.device_get(churn)
    moves = {code: Moves(_whole(found.pruned[code]), _whole(found.regrown[code])) for code in found.pruned}
    return int(found.events), moves


def _count_moves(keep: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
    """u32[] each: True in `keep` alone, and in `now` alone."""
    gone, back = count_marks([keep & ~now, now & ~keep]).astype(jnp.uint32)
    return gone, back


def _add(words: jax.Array, count: jax.Array) -> jax.Array:
    low = words[0] + count
    return jnp.stack([low, words[1] + (low < count)])


def _whole(words: np.ndarray) -> int:
    return int(words[0]) + (int(words[1]) << 32)
