"""A run's directory: its config, its data's identity, its metrics and its result.

RUN/config.json      the whole config
RUN/data.json        content hash, schema and vocabulary digests of the data
RUN/checkpoints/     see `checkpoint`
RUN/metrics.jsonl    a line each report of the training loss and each evaluation
RUN/tensorboard/     the same as events
RUN/result.json      written once, at the end
RUN/lock             see `lock`; held while a program trains here
RUN/sha256.json      digests of config.json, data.json and, once there is a result, of it and metrics.jsonl
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplight_jax import __version__
from deeplight_jax.config import PLACES, Config, config_hash, flatten, from_json, to_json
from deeplight_jax.data.identity import difference, identity
from deeplight_jax.data.prepared import MANIFEST, Prepared
from deeplight_jax.data.schema import Schema
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.files import write_atomically
from deeplight_jax.training.digests import read_sealed, seal, split_step
from deeplight_jax.training.lock import owned as owned
from deeplight_jax.training.plan import Plan, make_plan


def directory_of(workdir: str | Path) -> Path:
    """RUN of RUN or RUN@STEP."""
    return split_step(workdir)[0]


def start(workdir: Path, config: Config, data: Prepared) -> None:
    """Claim a run directory for a config and its data, or join the same run again.

    Raises:
      RunError: the directory holds a run of another config or other data, or cannot be written.
    """
    if check_same(workdir, config, data):
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        texts = {"data.json": json.dumps(identity(data), indent=1) + "\n", "config.json": to_json(config)}
        seal(workdir, texts)
        for name, text in texts.items():  # the config last: with it the run is there
            write_atomically(workdir / name, text, alone=True)
    except OSError as error:
        raise RunError(f"cannot write to {workdir} ({error.strerror}); name another --workdir") from error


def check_same(workdir: Path, config: Config, data: Prepared) -> bool:
    """Whether the directory holds a run, which must be of this config and data.

    Raises:
      RunError: it holds a run of another config or other data, or prepared data, is a file, or cannot be
        looked into.
    """
    try:
        begun, prepared = ((workdir / name).exists() for name in ("config.json", MANIFEST))
        file = workdir.exists() and not workdir.is_dir()
    except OSError as error:
        raise RunError(f"cannot read {workdir} ({error.strerror}); name another --workdir") from error
    if file:
        raise RunError(f"{workdir} is a file, not a directory; name another --workdir")
    if begun:
        before = load_config_of(workdir)
        if config_hash(before) != config_hash(config):
            raise RunError(
                f"{workdir} holds a run of another config ({_difference(before, config)}); "
                "use another --workdir"
            )
        if load_data_of(workdir)["content_hash"] != data.content_hash:
            raise RunError(
                f"{workdir} was trained on other data than {data.directory}; use another --workdir"
            )
        return True
    if prepared:
        raise RunError(f"{workdir} holds prepared data; use another --workdir")
    return False


def check_fits(workdir: Path, data: Prepared) -> None:
    """Whether rows of `data` mean to a run's model what its training rows meant.

    Raises:
      RunError: fields or vocabularies differ; the first difference is named.
    """
    if found := difference(identity(data), load_data_of(workdir), "the run's"):
        raise RunError(f"{data.directory}: {found}; encode the rows with `deeplight prepare ... --vocab` "
                       "of the run's data")  # fmt: skip


def load_config_of(workdir: Path) -> Config:
    """The config a run was started with.

    Raises:
      RunError: no run is there, or its config is damaged.
    """
    try:
        return from_json(_read_sealed(workdir / "config.json"))
    except ConfigError as error:
        raise RunError(f"{workdir / 'config.json'}: {error}") from error


def load_data_of(workdir: Path) -> dict[str, Any]:
    """Identity of the data a run was trained on (see `identity`).

    Raises:
      RunError: no run is there, or the file is damaged.
    """
    return _read_json(workdir / "data.json")


def load_schema_of(workdir: Path) -> Schema:
    """Fields of the data a run was trained on."""
    return Schema.from_json(load_data_of(workdir)["schema"])


def load_plan_of(workdir: Path) -> Plan:
    """The plan a run follows."""
    field_rows = [field.size for field in load_schema_of(workdir).fields]
    return make_plan(load_config_of(workdir), int(load_data_of(workdir)["rows"]), field_rows)


def load_result(workdir: Path) -> dict[str, Any] | None:
    """A finished run's result, or None."""
    return _read_json(workdir / "result.json") if (workdir / "result.json").exists() else None


def write_result(workdir: Path, result: Mapping[str, Any]) -> None:
    """Write the result, which ends a run: its metrics do not change any more."""
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    seal(workdir, {"metrics.jsonl": _read(workdir / "metrics.jsonl"), "result.json": text})
    write_atomically(workdir / "result.json", text, alone=True)


def versions() -> dict[str, str]:
    """Versions of Python, this package and what its numbers depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    own = {"python": platform.python_version(), "deeplight-jax": __version__}  # run from a checkout, too
    return own | {name: metadata.version(name) for name in names}


def append_metrics(workdir: Path, row: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl."""
    with (workdir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def load_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl, first step first; a half-written last line is left out.

    Raises:
      RunError: no run is there, or the file is damaged.
    """
    path = workdir / "metrics.jsonl"
    finished = (workdir / "result.json").exists()  # until then it grows
    return [json.loads(line) for line in _whole_lines(path, _read_sealed(path) if finished else _read(path))]


def rewind_metrics(workdir: Path, step: int, *, evaluated: bool = True) -> None:
    """Drop what an interrupted run wrote behind its last checkpoint, and a half-written last line.

    Without `evaluated` that checkpoint's own evaluation, too: it will be done again.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return
    last = step if evaluated else step - 1
    lines = _whole_lines(path, _read(path))
    kept = [line for line in lines if json.loads(line)["step"] <= (last if "split" in line else step)]
    write_atomically(path, "".join(f"{line}\n" for line in kept), alone=True)


def _whole_lines(path: Path, text: str) -> list[str]:
    """Lines with a step, but for one that a kill has cut short, which is the last."""
    lines = text.split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            float(json.loads(line)["step"])
        except (ValueError, LookupError, TypeError) as error:
            raise RunError(f"{path}, line {number} is damaged ({error}); take it out to go on") from error
    return lines[:-1]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged ({error})") from error
    except OSError as error:
        raise RunError(f"{path.parent} holds no run: cannot read {path.name} ({error.strerror})") from error


def _read_sealed(path: Path) -> str:
    try:
        return read_sealed(path)
    except OSError as error:
        raise RunError(f"{path.parent} holds no run: cannot read {path.name} ({error.strerror})") from error


def _read_json(path: Path) -> dict[str, Any]:
    text = _read_sealed(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error})") from error


def _difference(before: Config, after: Config) -> str:
    a, b = flatten(before), flatten(after)
    keys = [key for key in a if a[key] != b.get(key) and key not in PLACES]
    return ", ".join(f"{key}={a[key]!r} there, {b[key]!r} here" for key in keys[:3]) + (
        ", ..." if keys[3:] else ""
    )
