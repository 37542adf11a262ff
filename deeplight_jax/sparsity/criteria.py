"""What makes a weight worth keeping: its magnitude, as DeepLight has it, and three others to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deeplight_jax.sparsity.algebra import is_unmasked
from deeplight_jax.sparsity.components import Masks


class Criterion(NamedTuple):
    """How `project_onto_masks` scores weights; users may write their own.

    Attributes:
      score: `(params, memory, seed u32[]) -> scores`, structured as params, at an event. `params` are as
        they will be after the update.
      observe: `(memory, params, gradients) -> memory`, every step, of the params that the gradients were
        taken at; None: no memory, and gradients are not needed. Memory starts at zero, f32 at every leaf
        that has a mask, and `optax.MaskedNode()` elsewhere.
      signed: the largest scores are kept; else the largest magnitudes.
      seeded: whether `score` uses its seed.
    """

    score: Callable[[Any, Any, jax.Array], Any]
    observe: Callable[[Any, Any, Any], Any] | None = None
    signed: bool = False
    seeded: bool = False


def blank_memory(masks: Masks) -> Any:
    """f32 zeros at every masked leaf."""
    return jax.tree.map(lambda keep: jnp.zeros(keep.shape, jnp.float32), masks)


def draw(seed: jax.typing.ArrayLike, step: jax.typing.ArrayLike, like: Any) -> Any:
    """f32 in [0, 1) at every leaf, from the seed, the step and the leaf's place alone."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    leaves, treedef = jax.tree.flatten(like)
    drawn = [jax.random.uniform(jax.random.fold_in(key, i), x.shape) for i, x in enumerate(leaves)]
    return treedef.unflatten(drawn)


def _own(params: Any, memory: Any, seed: jax.Array) -> Any:
    return params


def _random(params: Any, memory: Any, seed: jax.Array) -> Any:
    return draw(seed, 0, params)


def _remembered(params: Any, memory: Any, seed: jax.Array) -> Any:
    return _at_masked(lambda m, p: m, memory, params)


def _add_movement(memory: Any, params: Any, gradients: Any) -> Any:
    return _at_masked(lambda m, p, g: m - p * g, memory, params, gradients, elsewhere=False)


def _add_saliency(memory: Any, params: Any, gradients: Any) -> Any:
    return _at_masked(lambda m, p, g: m + jnp.abs(p * g), memory, params, gradients, elsewhere=False)


def _at_masked(function: Any, memory: Any, params: Any, *rest: Any, elsewhere: bool = True) -> Any:
    """`function` where there is memory; elsewhere the leaf of `params`, or no memory."""

    def one(m: Any, p: Any, *more: Any) -> Any:
        return (p if elsewhere else m) if is_unmasked(m) else function(m, p, *more)

    return jax.tree.map(one, memory, params, *rest, is_leaf=is_unmasked)


MAGNITUDE = Criterion(_own)
"""|w| (Deng et al. 2021, Algorithm 1; Han et al. 2015)."""
RANDOM = Criterion(_random, seeded=True)
"""An order drawn once from the seed: what any criterion must beat. Masks of a lower rate hold those of a
higher one, so a weight once pruned does not return while the rate grows."""
MOVEMENT = Criterion(_remembered, _add_movement, signed=True)
"""Sum over all steps so far of -w dL/dw: high where training moved a weight away from zero (Sanh et al. 2020,
section 4; their learning rate of the scores is a common factor and left out)."""
SALIENCY = Criterion(_remembered, _add_saliency)
"""Sum over all steps so far of |w dL/dw|, to first order what the loss would change by without the weight
(SNIP, Lee et al. 2019, which takes it once, before training; Molchanov et al. 2017)."""
CRITERIA = {"magnitude": MAGNITUDE, "random": RANDOM, "movement": MOVEMENT, "saliency": SALIENCY}
