"""Masks that move at a constant count: at an event some kept weights are dropped, as many grown.

Drop by the criterion, grow at random (SET) or by the loss gradient (RigL). Pruned weights are held at zero
between events, and a grown weight starts from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.choices import Pools, is_square, marks_on, pools_of
from deeplight_jax.sparsity.components import Component, Labels, Masks
from deeplight_jax.sparsity.criteria import draw
from deeplight_jax.sparsity.masks import count_at
from deeplight_jax.sparsity.threshold import smallest

_SILENT = 2.0**-100  # gradients below it say nothing; chance decides


class Growth(NamedTuple):
    """How pruned weights come back.

    Attributes:
      score: `(gradients, seed u32[], k i32[]) -> scores >= 0`, structured as the gradients.
      rate: alpha, the share of the kept that is swapped at the first event.
      steps: T, behind the warm-up, in which the share falls to zero.
      needs_gradients: whether `score` reads them, or only their shapes.
    """

    score: Callable[[Any, jax.Array, jax.Array], Any]
    rate: float = 0.3
    steps: float = float("inf")
    needs_gradients: bool = True


def _random(gradients: Any, seed: jax.Array, k: jax.Array) -> Any:
    return draw(seed, k, gradients)


def _gradient(gradients: Any, seed: jax.Array, k: jax.Array) -> Any:
    drawn = draw(seed, k, gradients)
    return jax.tree.map(lambda g, u: jnp.maximum(jnp.abs(g), u * _SILENT), gradients, drawn)


RANDOM_GROWTH = Growth(_random, needs_gradients=False)
"""SET (Mocanu et al. 2018), with the share annealed as Evci et al. 2020 do when they compare it."""
GRADIENT_GROWTH = Growth(_gradient)
"""RigL (Evci et al. 2020): the largest |dL/dw| of this step's batch; where there is none, at random."""
GROWTHS = {"random": RANDOM_GROWTH, "gradient": GRADIENT_GROWTH}


def swapped_share(rate: jax.typing.ArrayLike, k: jax.typing.ArrayLike, steps: float) -> jax.Array:
    """f32[], alpha/2 (1 + cos(pi k / T)) up to step T, then 0 (Evci et al. 2020, "Update Schedule")."""
    done = jnp.clip(jnp.asarray(k, jnp.float32) / steps, 0.0, 1.0)
    return jnp.asarray(rate, jnp.float32) / 2 * (1.0 + jnp.cos(jnp.pi * done))


def grow_masks(
    masks: Masks,
    scores: Any,
    growth_scores: Any,
    labels: Labels,
    components: Sequence[Component],
    rates: Mapping[str, jax.typing.ArrayLike],
    share: jax.typing.ArrayLike,
    *,
    signed: bool = False,
) -> Masks:
    """Masks at the rates, or of as many kept as before where that is fewer, with a share of the kept grown.

    Args:
      masks: of the last event.
      scores: of the criterion; the lowest kept ones are dropped.
      growth_scores: not negative; the highest pruned or dropped ones are grown.
      labels: component codes, structured as the scores.
      components: those to prune; scopes as of `Component`, but for N:M.
      rates: fraction to prune by component code.
      share: f32[], of the kept, to be grown; fewer where fewer are pruned.
      signed: as of `select_masks`.

    Returns:
      Masks; the same number of choices (weights, rows, units) stays kept, exactly, unless the rate lowers it.
    """
    leaves, treedef = jax.tree.flatten(scores)
    codes, keeps = treedef.flatten_up_to(labels), treedef.flatten_up_to(masks)
    others = treedef.flatten_up_to(growth_scores)
    out: list[Any] = [optax.MaskedNode()] * len(leaves)
    for component in components:
        members = [i for i, code in enumerate(codes) if code == component.code]
        chosen = [leaves[i] for i in members]
        pools = _triangles(component, pools_of(component, chosen, signed))
        kept = _triangles(component, pools_of(component, [keeps[i].astype(jnp.float32) for i in members]))
        grown = _triangles(component, pools_of(component, [others[i] for i in members], signed=True))
        marks = [
            _swap([k > 0 for k in kept_pool], pool, grown_pool, rates[component.code], share, signed)
            for pool, kept_pool, grown_pool in zip(pools, kept, grown, strict=True)
        ]
        for i, keep in zip(
            members, marks_on(component, _squares(component, marks, chosen), chosen), strict=True
        ):
            out[i] = keep
    return treedef.unflatten(out)


def check_growable(components: Sequence[Component], growth: Growth | None) -> None:
    """Refuse what has no meaning with growth, if there is any.

    Raises:
      ConfigError: a component is pruned N:M.
    """
    for component in components:
        if growth is not None and component.group:
            raise ConfigError(f"component {component.code}: {component.scope} cannot be grown; prune it by "
                              "another scope, or without growth")  # fmt: skip


def _swap(
    kept: list[jax.Array],
    scores: list[jax.Array],
    growth_scores: list[jax.Array],
    rate: jax.typing.ArrayLike,
    share: jax.typing.ArrayLike,
    signed: bool,
) -> list[jax.Array]:
    """Keep-marks of one pool after dropping and growing."""
    size = sum(x.size for x in scores)
    before = sum((jnp.sum(k, dtype=jnp.int32) for k in kept), jnp.int32(0))
    keep = jnp.minimum(before, size - count_at(rate, size))
    grow = jnp.minimum(jnp.round(share * keep.astype(jnp.float32)).astype(jnp.int32), size - keep)
    ranked = [jnp.where(k, x if signed else jnp.abs(x), -jnp.inf) for k, x in zip(kept, scores, strict=True)]
    gone = smallest(ranked, size - (keep - grow), signed=True)
    open_to = [jnp.where(g, x, jnp.inf) for g, x in zip(gone, growth_scores, strict=True)]
    return [~m for m in smallest(open_to, size - keep)]


def _triangles(component: Component, pools: Pools) -> Pools:
    """Square matrices of the symmetric scope as their upper triangles, where each pair stands once."""
    if component.scope != "symmetric":
        return pools
    return [[x[jnp.triu_indices(len(x))] if is_square(x) else x for x in pool] for pool in pools]


def _squares(component: Component, marks: Pools, leaves: Sequence[jax.Array]) -> Pools:
    """The inverse of `_triangles`, of marks."""
    if component.scope != "symmetric":
        return marks
    return [
        [jnp.zeros(x.shape, bool).at[jnp.triu_indices(len(x))].set(mark) if is_square(x) else mark]
        for (mark,), x in zip(marks, leaves, strict=True)
    ]
