"""Configuration: typed defaults for every key, `file.py:arg` loading, overrides, validation, hashing.

A config file is a Python module with `get_config(arg: str) -> ConfigDict`; it runs as code, so load only
files you trust. Every key has a default here, and none can be added elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from absl import flags
from ml_collections import ConfigDict, config_flags

from deeplight_jax.errors import ConfigError, did_you_mean

Config: TypeAlias = Any  # an ml_collections.ConfigDict, whose attributes carry no static types
COMPONENT_LETTERS = {
    "D": "dnn",
    "R": "field",
    "F": "embedding",
    "C": "cin",
    "X": "cross",
    "A": "attention",
}


_DEFAULTS: dict[str, Any] = {
    "seed": 0,  # of initialisation, shuffling and dropout
    "model": {
        "name": "deepfwfm",
        "embedding_dim": 10,
        "hidden": (400, 400, 400),  # units of the deep net's hidden layers
        "narrow": 0.0,  # shrink them to the size of a net pruned to this rate (N-X of the paper's Table 4)
        "dropout": 0.5,  # on the deep net's input and each hidden layer
        "dropout_steps": 0,  # dropout for the first so many steps only; 0: always
        "dropout_bits": "hash",  # hash: counter hash, cheap; threefry: jax.random
        "embedding_std": 0.01,
        "linear": "field_vector",  # FwFM's linear term: <e_f, v_f>; weights: one a table row, as FM's
        "linear_field_weight": True,  # one more weight a field on the linear term (released program)
        "field_matrix": "pairs",  # n(n-1)/2 weights; full: n x n, symmetrised (released program)
        "nfm_pooling": "pooled",  # NFM: sum e_i * e_j; pairwise: each <e_i, e_j> (released program)
        "cin": (100, 100, 50),  # xDeepFM: feature maps of each CIN layer
        "cin_split_half": True,  # half of a CIN layer's maps go on, the other half to the output
        "cross_layers": 3,  # DCN, DCN-V2
        "attention_layers": 3,  # AutoInt
        "attention_heads": 2,
        "attention_units": 32,  # values a head
        "hash_buckets": 1 << 20,  # Poly2: weights shared by all pairs of values
        "compute_dtype": "float32",  # or bfloat16, behind the tables; weights stay float32
    },
    "data": {
        "dir": "",  # what `deeplight prepare` wrote
        "batch_size": 2048,
        "verify": True,  # compare every file with its SHA-256 before training
    },
    "optim": {
        "learning_rate": 1e-3,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "l2": 3e-7,  # coupled: added to the gradient before Adam, every parameter, every step
        "embedding_l2": 0.0,  # the same on top of it, for the parameters that F prunes,
        "dnn_l2": 0.0,  # and for those that D prunes
    },
    "sparsity": {
        "dnn": 0.0,  # target rates: D, R and F of "D90-R90-F40",
        "field": 0.0,
        "embedding": 0.0,
        "cin": 0.0,  # C of xDeepFM,
        "cross": 0.0,  # X of DCN and DCN-V2,
        "attention": 0.0,  # A of AutoInt
        "damping": 0.99,  # D of s = S(1 - D^(k/U))
        "damping_steps": 100.0,  # U
        "interval_steps": 10,  # an event every so many steps after warm-up
        "warmup_epochs": 2.0,
        "regrow": True,  # pruned weights may return between events
        "criterion": "magnitude",  # or random, movement, saliency: what is ranked; see sparsity.criteria
        "schedule": "damped",  # or polynomial, one_shot: how the rate grows behind the warm-up
        "growth": "none",  # or random (SET), gradient (RigL): swap kept weights at a constant count
        "growth_rate": 0.3,  # share of the kept swapped at first; falls to 0 at 75 % of the pruning steps
        "dnn_scope": "layer",  # or global, units (whole ones), N:M (N of each M inputs): what D ranks
        "embedding_scope": "global",  # or per_field (each field to the rate), rows (whole ones): what F ranks
        "init_masks": "",  # a file of `deeplight masks merge`: start from these masks, the rest at zero
        "epoch_end_event": False,  # one more event at an epoch's last batch (released program)
        "prune_linear": False,  # D prunes the linear term v, too (released program)
        "reach": 0.99,  # share of a target that the schedule must reach before the end
        "short_schedule": "error",  # too few steps for that: error, rescale (U) or accept
    },
    "train": {
        "epochs": 10,
        "checkpoint_steps": 0,  # save every so many steps, beside every epoch's end; 0: then only
        "keep": 2,  # latest checkpoints kept, beside the best
        "patience": 0,  # stop after so many epochs without a better one; 0: never
        "monitor": "roc_auc",  # metric on the validation split that picks the best epoch
        "init_from": "",  # RUN or RUN@STEP: go on from that run's checkpoint
    },
    "eval": {"batch_size": 8192},
}


def default_config() -> Config:
    """Every key with its default: the paper's DeepFwFM on Criteo (section 5.1.4), dense."""
    return ConfigDict(_DEFAULTS).lock()


def _sizes(layers: Sequence[Any], least: int) -> bool:
    return all(isinstance(units, int) and units >= least for units in layers)


_CHOICES: dict[str, tuple[str, ...]] = {
    "model.dropout_bits": ("hash", "threefry"),
    "model.linear": ("field_vector", "weights"),
    "model.field_matrix": ("pairs", "full"),
    "model.nfm_pooling": ("pooled", "pairwise"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "sparsity.short_schedule": ("error", "rescale", "accept"),
    "sparsity.criterion": ("magnitude", "random", "movement", "saliency"),
    "sparsity.schedule": ("damped", "polynomial", "one_shot"),
    "sparsity.growth": ("none", "random", "gradient"),
    "sparsity.embedding_scope": ("global", "per_field", "rows"),
    "train.monitor": ("roc_auc", "log_loss"),
}
_LATER = ("criterion", "schedule", "growth", "growth_rate", "dnn_scope", "embedding_scope", "init_masks")
"""Keys of `sparsity` that runs from before them were started without."""
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "seed": ("0 or more and below 2^31", lambda x: 0 <= x < 2**31),
    "model.embedding_dim": ("1 or more", lambda x: x >= 1),
    "model.narrow": ("a rate in [0, 1)", lambda x: 0 <= x < 1),
    "model.hidden": ("layer sizes of 1 or more", lambda x: _sizes(x, 1)),
    "model.cin": ("one or more layer sizes of 2 or more", lambda x: len(x) > 0 and _sizes(x, 2)),
    "model.cross_layers": ("1 or more", lambda x: x >= 1),
    "model.attention_layers": ("1 or more", lambda x: x >= 1),
    "model.attention_heads": ("1 or more", lambda x: x >= 1),
    "model.attention_units": ("1 or more", lambda x: x >= 1),
    "model.hash_buckets": ("1 or more and below 2^31", lambda x: 1 <= x < 2**31),
    "model.dropout": ("in [0, 1)", lambda x: 0 <= x < 1),
    "model.dropout_steps": ("0 or more", lambda x: x >= 0),
    "model.embedding_std": ("above 0", lambda x: x > 0),
    "data.batch_size": ("1 or more", lambda x: x >= 1),
    "optim.learning_rate": ("above 0", lambda x: x > 0),
    "optim.b1": ("in [0, 1)", lambda x: 0 <= x < 1),
    "optim.b2": ("in [0, 1)", lambda x: 0 <= x < 1),
    "optim.eps": ("above 0", lambda x: x > 0),
    "optim.l2": ("0 or more", lambda x: x >= 0),
    "optim.embedding_l2": ("0 or more", lambda x: x >= 0),
    "optim.dnn_l2": ("0 or more", lambda x: x >= 0),
    **{f"sparsity.{c}": ("a rate in [0, 1)", lambda x: 0 <= x < 1) for c in COMPONENT_LETTERS.values()},
    "sparsity.damping": ("in (0, 1)", lambda x: 0 < x < 1),
    "sparsity.damping_steps": ("above 0", lambda x: x > 0),
    "sparsity.interval_steps": ("1 or more", lambda x: x >= 1),
    "sparsity.warmup_epochs": ("0 or more", lambda x: x >= 0),
    "sparsity.growth_rate": ("a share in (0, 1)", lambda x: 0 < x < 1),
    "sparsity.dnn_scope": (
        "layer, global, units, or N:M such as 2:4",
        lambda x: bool(re.fullmatch(r"layer|global|units|\d+:\d+", x)),
    ),
    "sparsity.reach": ("in (0, 1)", lambda x: 0 < x < 1),
    "train.epochs": ("1 or more", lambda x: x >= 1),
    "train.checkpoint_steps": ("0 or more", lambda x: x >= 0),
    "train.keep": ("1 or more", lambda x: x >= 1),
    "train.patience": ("0 or more", lambda x: x >= 0),
    "eval.batch_size": ("1 or more", lambda x: x >= 1),
}


def load_config(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """Read a config file and apply overrides.

    Args:
      path: `file.py` or `file.py:arg`; the arg goes to the file's `get_config`.
      overrides: `["sparsity.dnn=0.99", ...]` or `{"sparsity.dnn": 0.99, ...}`.

    Returns:
      A validated, locked ConfigDict.

    Raises:
      ConfigError: the file cannot be read, or a key, type or range is wrong.
    """
    path, _, arg = str(path).partition(":")
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"no config file {file}; the shipped ones are in experiments/")
    namespace: dict[str, Any] = {"__name__": "deeplight_config", "__file__": str(file)}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    get_config = namespace.get("get_config")
    if not callable(get_config):
        raise ConfigError(f"{file} defines no get_config(arg)")
    config = get_config(arg) if arg else get_config()
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{file}: get_config returned {type(config).__name__}, not a ConfigDict")
    return override(config, overrides)


def override(config: Config, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """A validated, locked copy of `config` with `key.sub=value` overrides applied, typed as the defaults.

    Raises:
      ConfigError: an unknown key (the nearest known one is named), or a value of the wrong type or range.
    """
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={value}" for key, value in overrides.items()]
    changed = config.copy_and_resolve_references()
    known = flatten(default_config())
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals:
            raise ConfigError(f"override '{item}' has no value; write {key}=VALUE")
        if key not in known:
            raise ConfigError(f"unknown config key '{key}'{did_you_mean(key, known)}")
    arguments = ["deeplight", *(f"--config.{item}" for item in overrides)]
    parser = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", changed, flag_values=parser, sys_argv=arguments)
        parser(arguments)
    except flags.Error as error:
        raise ConfigError(str(error).removeprefix("flag --config.")) from error
    validate(changed)
    return changed.lock()


def validate(config: Config) -> None:
    """Check keys, types, choices and ranges.

    Raises:
      ConfigError: naming the key, its value and what it may be.
    """
    defaults, given = flatten(default_config()), flatten(config)
    for key, value in given.items():
        if key not in defaults:
            raise ConfigError(f"unknown config key '{key}'{did_you_mean(key, defaults)}")
        if type(value) is not type(defaults[key]):
            raise ConfigError(
                f"{key}={value!r} is a {type(value).__name__}; it must be a {type(defaults[key]).__name__}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value} is not finite")
        if key in _CHOICES and value not in _CHOICES[key]:
            meant = did_you_mean(str(value), _CHOICES[key])
            hint = meant if "did you mean" in meant else ""
            raise ConfigError(f"{key}={value!r} must be one of {', '.join(_CHOICES[key])}{hint}")
        if key in _RANGES and not _RANGES[key][1](value):
            raise ConfigError(f"{key}={value!r} must be {_RANGES[key][0]}")
    if missing := sorted(set(defaults) - set(given)):
        raise ConfigError(f"config lacks {', '.join(missing)}; start from default_config()")


def flatten(config: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a.b": value}` of a nested config."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | Mapping)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def config_hash(config: Config) -> str:
    """SHA-256 over every key that decides the result; `data.dir` is a place, not a setting."""
    flat = {k: v for k, v in flatten(config).items() if k not in ("data.dir", "data.verify", "train.keep")}
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()


def to_json(config: Config) -> str:
    """The whole config as JSON text; `from_json` reads it back."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> Config:
    """A config saved with a run.

    Raises:
      ConfigError: the text is not a whole, valid config.
    """
    try:
        saved = json.loads(text)
        for key in ("hidden", "cin"):
            saved["model"][key] = tuple(saved["model"][key])  # JSON knows lists only
        for key in _LATER:
            saved["sparsity"].setdefault(key, _DEFAULTS["sparsity"][key])
        config: Config = ConfigDict(saved)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"not a saved config ({error})") from error
    validate(config)
    return config.lock()


def parse_code(code: str) -> dict[str, float]:
    """Target rates of a code such as "D90-R90-F40" (percent pruned; decimals allowed).

    Returns:
      `{"dnn": 0.9, "field": 0.9, "embedding": 0.4}`.

    Raises:
      ConfigError: the code is malformed, repeats a letter, or a rate is 100 or more.
    """
    rates: dict[str, float] = {}
    for part in code.split("-"):
        match = re.fullmatch(r"([A-Z])(\d+(?:\.\d+)?)", part)
        if not match or match[1] not in COMPONENT_LETTERS or float(match[2]) >= 100:
            raise ConfigError(
                f"sparsity code '{code}': '{part}' is not a letter of {' '.join(COMPONENT_LETTERS)} "
                "and a rate below 100"
            )
        name = COMPONENT_LETTERS[match[1]]
        if name in rates:
            raise ConfigError(f"sparsity code '{code}' names {match[1]} twice")
        rates[name] = float(match[2]) / 100
    return rates


def set_code(config: Config, code: str) -> None:
    """Write the target rates of a code such as "D90-R90-F40" into `config.sparsity`; others become 0."""
    rates = parse_code(code)
    for name in COMPONENT_LETTERS.values():
        config.sparsity[name] = rates.get(name, 0.0)


def set_released(config: Config) -> None:
    """Settings of the authors' program where they differ from the paper's; call it once targets are set.

    Its data is prepared with `--numeric floor --vocab-scope all`.
    """
    config.model.dropout_steps = 100
    config.model.field_matrix = "full"
    config.model.nfm_pooling = "pairwise"
    config.optim.l2 = 6e-7
    config.sparsity.epoch_end_event = True
    config.sparsity.prune_linear = True
    if config.sparsity.dnn:
        config.sparsity.embedding = 0.444 * config.sparsity.dnn
