"""What a model costs on paper: parameters as the paper counts them, and multiply-adds a row (Table 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax

from deeplight_jax.config import Config, default_config, override
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.models import abstract_params, build_model, check_name, with_widths


class Convention(NamedTuple):
    """How the paper counted a model of its Table 3: with these settings, and `extra` parameters on top."""

    overrides: dict[str, Any] = {}  # noqa: RUF012 (never written to)
    extra: int = 0


_AVAZU = {"model.embedding_dim": 20, "model.hidden": (300, 300, 300)}
_PAIRWISE = {"model.nfm_pooling": "pairwise"}
PUBLISHED: dict[str, dict[str, Convention]] = {
    "criteo": {
        "lr": Convention(),
        "fm": Convention(),
        "fwfm": Convention({"model.linear_field_weight": False}),
        "deepfm": Convention(),
        "nfm": Convention(_PAIRWISE),
        "xdeepfm": Convention(extra=2),  # output biases of its own for the CIN and the net
        "deepfwfm": Convention(),
    },
    "avazu": {
        "lr": Convention(_AVAZU),
        "fm": Convention(_AVAZU),
        "fwfm": Convention({**_AVAZU, "model.field_matrix": "full"}),
        "deepfm": Convention(_AVAZU),
        "nfm": Convention({**_AVAZU, **_PAIRWISE}),
        "deepfwfm": Convention({**_AVAZU, "model.field_matrix": "full"}),
    },
}
"""Settings that reproduce the parameter counts of Table 3. On Avazu R was counted as n x n, on Criteo as
n(n-1)/2, there without the released program's field weights for FwFM. Avazu's xDeepFM (32,927,058) fits no
size that the paper states, so it has no convention."""


def count_params(config: Config, schema: Schema) -> int:
    """Parameters of the configured model, without any memory."""
    params, _ = abstract_params(build_model(config, schema), schema)
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params))


def published_params(dataset: str, model: str, schema: Schema) -> int:
    """Parameters of a model over a schema as the paper counts them.

    Raises:
      ConfigError: Table 3 has no such model or its count follows no known convention.
    """
    convention = PUBLISHED.get(dataset, {}).get(model)
    if convention is None:
        raise ConfigError(f"no known convention gives Table 3's parameter count of {model} on {dataset}")
    config = override(default_config(), {"model.name": model, **convention.overrides})
    return count_params(config, schema) + convention.extra


def multiply_adds(config: Config, schema: Schema) -> dict[str, int]:
    """Multiply-adds of one row's dense forward pass by part of the model (the paper's Table 1).

    A multiplication with or without an addition counts one; additions alone, activations and look-ups none.

    Args:
      config: `model` decides.
      schema: its number of fields n.

    Returns:
      `{part: multiply-adds}` of the parts that it has: "linear" (FwFM's <e, v>; first-order weights need
      none), "pairs", "deep", "cin", "cross", "attention", and "output" for a unit beside the net's own.

    Raises:
      ConfigError: no model has that name.
    """
    sizes = _Sizes(with_widths(config, schema), schema.num_fields)
    return {part: count for part, count in _PARTS[check_name(config)](sizes).items() if count}


class _Sizes(NamedTuple):
    """Multiply-adds of each layer."""

    config: Config
    n: int

    @property
    def k(self) -> int:
        return self.config.model.embedding_dim

    @property
    def pairs(self) -> int:
        return self.n * (self.n - 1) // 2

    @property
    def fm(self) -> dict[str, int]:
        return {"pairs": (self.n + 1) * self.k + self.k}  # squares, square of the sum, halving

    @property
    def fwfm(self) -> dict[str, int]:
        model = self.config.model
        weighted = self.n if model.linear_field_weight else 0
        linear = self.n * self.k + weighted if model.linear == "field_vector" else 0
        return {"linear": linear, "pairs": self.pairs * (self.k + 1)}

    def deep(self, inputs: int, output: bool = True) -> dict[str, int]:
        widths = [inputs, *self.config.model.hidden, *([1] if output else [])]
        return {"deep": sum(a * b for a, b in pairwise(widths))}

    @property
    def joined(self) -> int:
        return self.n * self.k

    @property
    def nfm(self) -> dict[str, int]:
        if self.config.model.nfm_pooling == "pooled":
            return {**self.fm, **self.deep(self.k)}
        return {"pairs": self.pairs * self.k, **self.deep(self.pairs, output=False)}

    def dcn(self, matrix: bool) -> dict[str, int]:
        d, last = self.joined, (self.joined, *self.config.model.hidden)[-1]
        layer = d * d + d if matrix else 2 * d
        cross = {"cross": self.config.model.cross_layers * layer, "output": d + last}
        return {**cross, **self.deep(d, output=False)}

    @property
    def cin(self) -> dict[str, int]:
        model, maps, total, direct = self.config.model, self.n, 0, 0
        for i, out in enumerate(model.cin):
            total += self.k * maps * self.n * (1 + out)  # the product tensor, then the filters
            split = model.cin_split_half and i < len(model.cin) - 1
            direct += out - out // 2 if split else out
            maps = out // 2 if split else out
        return {"cin": total, "output": direct}

    @property
    def attention(self) -> dict[str, int]:
        model = self.config.model
        width, total, inputs = model.attention_heads * model.attention_units, 0, self.k
        for _ in range(model.attention_layers):
            total += 4 * self.n * inputs * width + 2 * self.n * self.n * width
            inputs = width
        return {"attention": total, "output": self.n * width}


_PARTS: dict[str, Callable[[_Sizes], dict[str, int]]] = {
    "lr": lambda s: {},
    "poly2": lambda s: {"pairs": s.pairs},
    "fm": lambda s: s.fm,
    "ffm": lambda s: {"pairs": s.pairs * s.k},
    "fwfm": lambda s: s.fwfm,
    "fmfm": lambda s: {"pairs": s.pairs * s.k * (s.k + 1)},
    "widedeep": lambda s: s.deep(s.joined),
    "deepfm": lambda s: {**s.fm, **s.deep(s.joined)},
    "nfm": lambda s: s.nfm,
    "pnn": lambda s: {"pairs": s.pairs * s.k, **s.deep(s.joined + s.pairs)},
    "dcn": lambda s: s.dcn(matrix=False),
    "dcnv2": lambda s: s.dcn(matrix=True),
    "autoint": lambda s: s.attention,
    "xdeepfm": lambda s: {**s.cin, **s.deep(s.joined)},
    "deepfwfm": lambda s: {**s.fwfm, **s.deep(s.joined)},
}
