"""What is pruned together: the paper's D, R and F, xDeepFM's C, or a user's own.

A parameter belongs to a component by its label: a pytree of the parameters' structure holds a component's
code at each prunable leaf and "" elsewhere. Layers declare labels where they make parameters; in other
optax projects any function of the tree may write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deeplight_jax.errors import ConfigError, did_you_mean

Scope = str  # one of KINDS, or "N:M"
Labels = Any  # pytree of str, structured as the parameters
Masks = Any  # pytree of bool arrays (True = keep) and optax.MaskedNode, structured as the parameters

UNPRUNED = ""
KINDS = ("layer", "symmetric", "global", "sections", "rows", "units")
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
      scope: what is ranked together, and what is kept or pruned whole.
        "layer": each array's weights;
        "global": all arrays' weights, under one threshold;
        "symmetric": as "layer", but w_ij and w_ji of a square matrix go together, ranked by |w_ij + w_ji|;
        "sections": the rows of each of `sections`, so that each is pruned to the rate;
        "rows": whole rows (first axis) of all arrays together, by their L2 norms;
        "units": whole columns (last axis: a layer's units) array by array, by their L2 norms;
        "N:M", as "2:4": of each M successive inputs (first axis) of a unit N are kept, and more while the
        schedule is on its way (Mishra et al. 2021); the target is 1 - N/M.
      sections: rows of each section, of arrays that have as many rows; others are one section.

    Raises:
      ConfigError: the target is outside [0, 1), the scope is unknown, or N:M is not the target.
    """

    code: str
    target: float
    scope: Scope = "layer"
    sections: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.target < 1:
            raise ConfigError(f"component {self.code}: target {self.target} is not a rate in [0, 1)")
        if self.group and self.target and abs(self.target - 1 + self.kept_of_group / self.group) > 1e-6:
            rate = 1 - self.kept_of_group / self.group
            raise ConfigError(f"component {self.code}: {self.scope} prunes {rate:g}; make that its target, "
                              f"which is {self.target:g}")  # fmt: skip
        if not self.group and self.scope not in KINDS:
            meant = did_you_mean(self.scope, (*KINDS, "N:M"))
            raise ConfigError(f"component {self.code}: no scope '{self.scope}'{meant}")

    @property
    def group(self) -> int:
        """M of "N:M", else 0."""
        return parse_pattern(self.scope)[1]

    @property
    def kept_of_group(self) -> int:
        """N of "N:M", else 0."""
        return parse_pattern(self.scope)[0]


def parse_pattern(scope: str) -> tuple[int, int]:
    """N and M of "N:M" with 0 < N < M <= 32; (0, 0) of anything else."""
    found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", scope)
    kept, group = (int(found[1]), int(found[2])) if found else (0, 0)
    return (kept, group) if kept < group <= 32 else (0, 0)
