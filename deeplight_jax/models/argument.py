"""The argument of a config file in words: "xdeepfm", "deepfwfm,D90-R90-F40", "deepfwfm,N-90", "fm,E-40"."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise

from deeplight_jax.config import Config, set_code, set_released
from deeplight_jax.errors import ConfigError
from deeplight_jax.models import MODELS


def apply_argument(config: Config, argument: str, num_fields: int) -> None:
    """Write what a config file's argument asks for into its config.

    Args:
      config: unlocked; changed in place.
      argument: parts between commas, taken from left to right: a model's name; a sparsity code
        ("D90-R90-F40"); "N-90", a deep net so narrow that it has as many weights as one pruned by 90 %;
        "E-40", embeddings 40 % shorter (both dense baselines of the paper's Table 4); "released", the
        authors' settings.
      num_fields: fields of the data, for "N-X".

    Raises:
      ConfigError: a part is none of these; the nearest model is named.
    """
    parts = [part for part in argument.split(",") if part]
    for part in parts:
        if part in MODELS:
            config.model.name = part
        elif found := re.fullmatch(r"E-(\d+(?:\.\d+)?)", part):
            config.model.embedding_dim = max(
                1, round(config.model.embedding_dim * (1 - _rate(part, found[1])))
            )
        elif found := re.fullmatch(r"N-(\d+(?:\.\d+)?)", part):
            inputs = num_fields * config.model.embedding_dim
            config.model.hidden = narrowed(inputs, tuple(config.model.hidden), _rate(part, found[1]))
        elif re.match(r"[A-Z]\d", part):
            set_code(config, part)
        elif part != "released":
            close = difflib.get_close_matches(part, MODELS, n=1, cutoff=0.5)
            remedy = f"did you mean '{close[0]}'?" if close else f"models: {', '.join(MODELS)}"
            raise ConfigError(f"'{part}' is no model, sparsity code, N-X, E-X or released; {remedy}")
    if "released" in parts:
        set_released(config)


def narrowed(inputs: int, hidden: tuple[int, ...], rate: float) -> tuple[int, ...]:
    """Widths of the dense net that has as many parameters as the wide one pruned to `rate`; none below 1.

    All layers shrink by one factor; biases and the output unit are not pruned, so they count in full.
    """

    def size(widths: tuple[int, ...], kept: float = 1.0) -> float:
        weights = sum(a * b for a, b in pairwise((inputs, *widths)))
        return weights * kept + sum(widths) + widths[-1]

    wanted = size(hidden, 1 - rate)
    first = hidden[0]
    candidates = (tuple(max(1, round(h * w / first)) for h in hidden) for w in range(1, first + 1))
    return min(candidates, key=lambda widths: abs(size(widths) - wanted))


def _rate(part: str, percent: str) -> float:
    if float(percent) >= 100:
        raise ConfigError(f"'{part}': the rate must be below 100")
    return float(percent) / 100
