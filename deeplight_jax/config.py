"""Configuration: `file.py:arg` loading, overrides, validation, hashing; the keys themselves are in `keys.py`.

A config file is a Python module with `get_config(arg: str) -> ConfigDict`; it runs as code, so load only
files you trust. Every key has a default in `keys.py`, and none can be added elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from absl import flags
from ml_collections import ConfigDict, config_flags

from deeplight_jax.errors import ConfigError, DeeplightError, did_you_mean_key, nearest
from deeplight_jax.keys import CHOICES, COMPONENT_LETTERS, DEFAULTS, RANGES

Config: TypeAlias = Any  # an ml_collections.ConfigDict, whose attributes carry no static types


_PACKAGE = Path(__file__).parent
_OWN_FILES = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent
"""Where experiments/ and sweeps/ are: in the package as it was installed, beside it in a checkout."""
_LATER = {
    "data": ("shuffle_seed",),
    "optim": ("embedding", "embedding_learning_rate"),
    "sparsity": (
        "criterion",
        "schedule",
        "growth",
        "growth_rate",
        "dnn_scope",
        "embedding_scope",
        "init_masks",
    ),
    "train": ("on_nonfinite",),
    "mesh": ("data", "table"),
}
"""Keys that runs from before them were started without: their defaults are meant."""
PLACES = ("data.dir", "data.verify", "train.keep", "mesh.data", "mesh.table")
"""Keys that no result depends on: a run may go on with others."""
_UNHASHED_DEFAULTS = (
    "data.shuffle_seed",
    "optim.embedding",
    "optim.embedding_learning_rate",
    "train.on_nonfinite",
)
"""Keys left out of the hash at their defaults: hashes from before these keys stand."""


def default_config() -> Config:
    """Every key with its default: the paper's DeepFwFM on Criteo (section 5.1.4), dense."""
    return ConfigDict(DEFAULTS).lock()


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
    check_overrides(overrides)
    config = call_file(path, "get_config")
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config returned {type(config).__name__}, not a ConfigDict")
    return override(config, overrides)


def call_file(path: str | Path, function: str) -> Any:
    """What a function of a Python file returns: `file.py` calls it without, `file.py:arg` with an argument.

    `experiments/NAME.py` and `sweeps/NAME.py` that are not here are the package's own.

    Raises:
      ConfigError: there is no such file, it does not define the function, or its code raises; then the line
        is named.
    """
    path, _, arg = str(path).partition(":")
    file = Path(path)
    if not file.is_file() and file.parts[:1] in (("experiments",), ("sweeps",)):
        file = _OWN_FILES / file
    if not file.is_file():
        own = (*_OWN_FILES.glob("experiments/*.py"), *_OWN_FILES.glob("sweeps/*.py"))
        hint = (
            nearest(path, (str(f.relative_to(_OWN_FILES)) for f in own))
            or "; the shipped ones are in experiments/ and sweeps/"
        )
        raise ConfigError(f"no config file {path}{hint}")
    namespace: dict[str, Any] = {"__name__": "deeplight_config", "__file__": str(file.absolute())}
    try:
        source = file.read_text(encoding="utf-8")
        exec(compile(source, str(file), "exec", dont_inherit=True), namespace)  # nor our __future__
        if callable(found := namespace.get(function)):
            return found(arg) if arg else found()
    except DeeplightError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"{file}{_line_of(error, file)}: {type(error).__name__}: {why}") from error
    raise ConfigError(f"{file} defines no {function}(arg)")


def _line_of(error: Exception, file: Path) -> str:
    """The file's line that an error came from, as " line 3"; empty where none is known."""
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f" line {lines[-1]}" if lines else ""


def override(config: Config, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """A validated, locked copy of `config` with `key.sub=value` overrides applied, typed as the defaults.

    Raises:
      ConfigError: an unknown key (the nearest known one is named), or a value of the wrong type or range.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides must be given as a list, not as the single word {overrides!r}")
    changed, known = config.copy_and_resolve_references(), flatten(DEFAULTS)
    words: list[str] = []
    for item in overrides.items() if isinstance(overrides, Mapping) else overrides:
        key, equals, text = item.partition("=") if isinstance(item, str) else (item[0], "=", item[1])
        if not equals:
            raise ConfigError(f"override '{item}' has no value; write {key}=VALUE")
        if key not in known:
            raise ConfigError(f"unknown config key '{key}'{did_you_mean_key(key, known)}")
        if not isinstance(item, str) and type(text) is type(known[key]):
            changed.update_from_flattened_dict({key: text})
        else:
            words.append(f"--config.{key}={text}")
    if words:  # ml_collections prints the whole config for every parser it makes: 30 ms
        _parse(changed, words)
    validate(changed)
    return changed.lock()


def check_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> None:
    """Tell a mistake in one before the code of a config file runs, which may take its time.

    Raises:
      ConfigError: as `override` does.
    """
    override(default_config(), overrides)


def _parse(config: Config, words: Sequence[str]) -> None:
    arguments, parser = ["deeplight", *words], flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=parser, sys_argv=arguments)
        parser(arguments)
    except flags.Error as error:
        raise ConfigError(str(error).removeprefix("flag --config.")) from error


def validate(config: Config) -> None:
    """Check keys, types, choices and ranges.

    Raises:
      ConfigError: naming the key, its value and what it may be.
    """
    defaults, given = flatten(DEFAULTS), flatten(config)
    for key, value in given.items():
        if key not in defaults:
            raise ConfigError(f"unknown config key '{key}'{did_you_mean_key(key, defaults)}")
        if type(value) is not type(defaults[key]):
            raise ConfigError(
                f"{key}={value!r} is a {type(value).__name__}; it must be a {type(defaults[key]).__name__}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value} is not finite")
        if key in CHOICES and value not in CHOICES[key]:
            near = nearest(str(value), CHOICES[key])
            raise ConfigError(f"{key}={value!r} must be one of {', '.join(CHOICES[key])}{near}")
        if key in RANGES and not RANGES[key][1](value):
            raise ConfigError(f"{key}={value!r} must be {RANGES[key][0]}")
    if missing := sorted(set(defaults) - set(given)):
        raise ConfigError(f"config lacks {', '.join(missing)}; start from default_config()")


def flatten(config: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a.b": value}` of a nested config."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | Mapping)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def shuffle_seed(config: Config) -> int:
    """The seed of the order of the training rows."""
    return config.seed if config.data.shuffle_seed == -1 else config.data.shuffle_seed


def config_hash(config: Config) -> str:
    """SHA-256 over every key but those of `PLACES`, and but `_UNHASHED_DEFAULTS` where they are defaults.

    The directory of a sweep whose shared warm-up a member starts from is a place, too: the warm-up's name is
    a hash.
    """
    flat = {k: v for k, v in flatten(config).items() if k not in PLACES}
    defaults = flatten(DEFAULTS)
    flat["train.init_from"] = re.sub(r"^.*/(?=warmup/[0-9a-f]{16}$)", "", flat["train.init_from"])
    flat = {k: v for k, v in flat.items() if k not in _UNHASHED_DEFAULTS or v != defaults[k]}
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
        for part, keys in _LATER.items():
            saved[part] = {key: DEFAULTS[part][key] for key in keys} | saved.get(part, {})
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
