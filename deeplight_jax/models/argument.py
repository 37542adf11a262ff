"""The argument of a config file in words: "xdeepfm", "deepfwfm,D90-R90-F40", "deepfwfm,N-90", "fm,E-40"."""

from __future__ import annotations

import re

from deeplight_jax.config import Config, set_code, set_released
from deeplight_jax.errors import ConfigError, did_you_mean
from deeplight_jax.models import MODELS

_WORDS = ("paper", "released", "smoke", "pairwise")
_WAYS: dict[str, dict[str, str]] = {  # words for other ways to prune, by the key of `sparsity` they set
    "criterion": {"random": "random", "movement": "movement", "saliency": "saliency"},
    "schedule": {"polynomial": "polynomial", "one_shot": "one_shot"},
    "growth": {"set": "random", "rigl": "gradient"},
    "embedding_scope": {"per_field": "per_field", "rows": "rows"},
    "dnn_scope": {"units": "units", "global": "global"},
}
_KEY_OF_WAY = {word: key for key, words in _WAYS.items() for word in words}


def apply_argument(config: Config, argument: str) -> None:
    """Write what a config file's argument asks for into its config; do so last, so that it stands.

    Args:
      config: unlocked; changed in place.
      argument: parts between commas, each at most once: a model's name; a sparsity code ("D90-R90-F40");
        "N-90", a deep net so narrow that it has as many weights as one pruned by 90 %; "E-40", embeddings
        40 % shorter (both dense baselines of the paper's Table 4); "pairwise", NFM as the paper's Table 3
        counts it; "paper" (nothing to change), "released" (the authors' settings) or "smoke" (a small net,
        two epochs); and another way to prune than Algorithm 1's: "random", "movement", "saliency" (criteria);
        "polynomial", "one_shot" (schedules); "set", "rigl" (growth); "per_field", "rows" (of F), "global",
        "units", "2:4" (of D) (scopes).

    Raises:
      ConfigError: a part is none of these (the nearest is named), comes twice, or means nothing to the model.
    """
    parts = [part for part in argument.split(",") if part]
    kinds = [_kind(part) for part in parts]
    for kind in set(kinds):
        if kinds.count(kind) > 1:
            twice = ", ".join(p for p, k in zip(parts, kinds, strict=True) if k == kind)
            raise ConfigError(f"'{argument}' has more than one {kind}: {twice}; write one")
    for part, kind in zip(parts, kinds, strict=True):
        if kind == "model":
            config.model.name = part
        elif kind == "sparsity code":
            set_code(config, part)
        elif kind == "N-X":
            config.model.narrow = _rate(part)
        elif kind == "E-X":
            config.model.embedding_dim = max(1, round(config.model.embedding_dim * (1 - _rate(part))))
        elif kind in _WAYS:
            config.sparsity[kind] = _WAYS[kind].get(part, part)
    if "E-X" in kinds and config.model.name in ("lr", "poly2"):
        raise ConfigError(f"'{argument}': model {config.model.name} has no embeddings to shorten")
    if "pairwise" in parts:
        if config.model.name != "nfm":
            raise ConfigError(f"'{argument}': pairwise is NFM's, not model {config.model.name}'s")
        config.model.nfm_pooling = "pairwise"
    if "released" in parts:
        set_released(config)
    if "smoke" in parts:
        _shrink(config)


def _kind(part: str) -> str:
    """What a part is; each kind may stand once."""
    if part in MODELS:
        return "model"
    if part in _WORDS:
        return "pooling" if part == "pairwise" else "recipe"
    if part in _KEY_OF_WAY:
        return _KEY_OF_WAY[part]
    if re.fullmatch(r"\d+:\d+", part):
        return "dnn_scope"
    if found := re.match(r"([NE])-\d", part):
        return f"{found[1]}-X"
    if re.match(r"[A-Z]\d", part):
        return "sparsity code"
    known = [*MODELS, *_WORDS, *_KEY_OF_WAY]
    raise ConfigError(f"'{part}' is no model, sparsity code, N-X, E-X or recipe{did_you_mean(part, known)}")


def _rate(part: str) -> float:
    found = re.fullmatch(r"[NE]-(\d+(?:\.\d+)?)", part)
    if not found or float(found[1]) >= 100:
        raise ConfigError(f"'{part}': write {part[:2]} and a rate in percent, below 100")
    return float(found[1]) / 100


def _shrink(config: Config) -> None:
    config.model.hidden = (32, 32)
    config.data.batch_size = 512
    config.train.epochs = 2
    config.sparsity.warmup_epochs = 1.0
    config.sparsity.short_schedule = "rescale"
