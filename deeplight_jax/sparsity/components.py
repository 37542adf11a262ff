"""What is pruned together: the paper's D, R and F, xDeepFM's C, or a user's own.

A parameter belongs to a component by its label: a pytree of the parameters' structure holds a component's
code at each prunable leaf and "" elsewhere. Layers declare labels where they make parameters; in other
optax projects any function of the tree may write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deeplight_jax.errors import ConfigError

Scope = Literal["layer", "symmetric", "global"]
Labels = Any  # pytree of str, structured as the parameters
Masks = Any  # pytree of bool arrays (True = keep) and optax.MaskedNode, structured as the parameters

UNPRUNED = ""
SCOPES: dict[str, Scope] = {
    "dnn": "layer",
    "field": "symmetric",
    "embedding": "global",
    "cin": "layer",
    "cross": "layer",
    "attention": "layer",
}


@dataclass(frozen=True)
class Component:
    """Parameters that share a target rate.

    Attributes:
      code: the label that its parameters carry.
      target: rate in [0, 1) that the schedule approaches; the transform moves it into its state, where
        it is traced.
      scope: "layer" prunes each array to the rate; "global" all arrays under one threshold; "symmetric"
        is "layer" that keeps or drops w_ij and w_ji of a square matrix together, ranked by |w_ij + w_ji|.

    Raises:
      ConfigError: the target is outside [0, 1).
    """

    code: str
    target: float
    scope: Scope = "layer"

    def __post_init__(self) -> None:
        if not 0 <= self.target < 1:
            raise ConfigError(f"component {self.code}: target {self.target} is not a rate in [0, 1)")
