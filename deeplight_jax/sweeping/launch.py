"""Runs a sweep: warm-ups, then what is missing of its members by one of three backends, then measurements.

A finished member is never run again; one that was interrupted goes on from its checkpoint; one that fails is
recorded with its error, and the others go on.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.config import COMPONENT_LETTERS, flatten, to_json
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import ConfigError, DeeplightError, RunError
from deeplight_jax.sweeping import ledger
from deeplight_jax.sweeping.grid import Sweep
from deeplight_jax.sweeping.members import Member, describe, program_key, resolve, varied
from deeplight_jax.sweeping.results import measure_members, write_results
from deeplight_jax.training import run
from deeplight_jax.training.job import Progress as Progress
from deeplight_jax.training.job import plan_of
from deeplight_jax.training.loop import check, train

_LOG = logging.getLogger(__name__)
BACKENDS = ("sequential", "compiled", "ray")


class Options(NamedTuple):
    """How a sweep is run; none of it changes a result beyond rounding.

    Attributes:
      backend: "sequential": one after the other in this process; "compiled": members of a group in one
        program; "ray": a Ray task each.
      layout: compiled: members computed at once on a device; 0: the fastest known or measured.
      per_device: compiled: members held on a device; 0: as many as its memory holds.
      address: ray: of a running cluster; "": one is started on this machine.
      num_cpus: ray: cores a member.
      num_gpus: ray: accelerators a member, may be a fraction.
      retries: ray: how often a member whose worker is lost goes on elsewhere.
      measure: whether the serving engine is measured on every finished member.
    """

    backend: str = "compiled"
    layout: int = 0
    per_device: int = 0
    address: str = ""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    retries: int = 3
    measure: bool = True


def run_sweep(
    sweep: Sweep,
    directory: str | Path,
    options: Options = Options(),  # noqa: B008, a value
    *,
    data: Prepared | None = None,
    progress: Progress | None = None,
) -> ledger.Status:
    """Run what is missing of a sweep.

    Args:
      sweep: of `load_sweep`.
      directory: of the sweep; with "ray" every machine must see it, and the data, under the same path.
      options: how.
      data: an opened data set; by default `config.data.dir` is opened.
      progress: called as `progress(what, done, total)`.

    Returns:
      Where the sweep stands at the end.

    Raises:
      ConfigError: an option makes no sense, or a member, which is named, could not begin; nothing is trained.
      DataError: the data is missing or damaged.
      RunError: the directory holds a sweep of other data, another program is at it, or it cannot be written.
    """
    _check_options(options)
    directory, advance = Path(directory), progress or (lambda *_: None)
    data = data or open_prepared(sweep.config.data.dir, verify=sweep.config.data.verify)
    members = resolve(sweep, directory, data.content_hash)
    if options.backend == "compiled":
        _refuse_meshes(members)
    _check([m for m in members if not _is_done(m, directory)], directory, data)
    with run.owned(directory):
        _write_sweep(sweep, members, directory, data)
        return run_members(members, directory, options, data, advance)


def _check_options(options: Options) -> None:
    if options.backend not in BACKENDS:
        raise ConfigError(f"no backend {options.backend}; use one of {', '.join(BACKENDS)}")
    for name in ("layout", "per_device", "num_cpus", "num_gpus", "retries"):
        if not 0 <= (value := getattr(options, name)) < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: use 0 or more")


def _refuse_meshes(members: Sequence[Member]) -> None:
    """A compiled sweep has members on each device, not a member on several."""
    for member in members:
        mesh = member.config.mesh
        if mesh.data * mesh.table > 1:
            raise ConfigError(
                f"mesh.data={mesh.data} and mesh.table={mesh.table} split a member over devices, and a "
                "compiled sweep spreads members over them; use --backend sequential"
            )


def run_members(
    members: Sequence[Member], directory: Path, options: Options, data: Prepared, progress: Progress
) -> ledger.Status:
    """Run those of the members that have no result yet, then measure them and write the results."""
    missing = [m for m in members if not _is_done(m, directory)]
    for member in missing:
        ledger.clear_failure(directory, member.name)
    _warn(missing, data)
    if options.backend == "ray":
        from deeplight_jax.sweeping.cluster import run_on_cluster

        run_on_cluster(missing, directory, options, data, progress)
    else:
        ready = _run_warmups(missing, directory, data, progress)
        if options.backend == "compiled":
            from deeplight_jax.sweeping.compiled import run_compiled

            run_compiled(ready, members, directory, data, options.layout, options.per_device, progress)
        else:
            for done, member in enumerate(ready):
                progress("members", done, len(ready))
                run_member(member, directory, data, progress)
    if options.measure:
        measure_members(directory, [m.name for m in members], progress)
    write_results(directory)
    return ledger.status(directory)


def _warn(members: Sequence[Member], data: Prepared) -> None:
    """Say once, with a count, what the members' plans had to change."""
    for notice, count in Counter(plan_of(m.config, data).notice for m in members).items():
        if notice:
            _LOG.warning("%s (%d of %d members)", notice, count, len(members))


def run_member(member: Member, directory: Path, data: Prepared, progress: Progress) -> str:
    """Train one member to its end; returns its error, "" if there is none."""
    with ledger.beating(directory, [member.name]) as beat:

        def advance(what: str, done: int, total: int) -> None:
            if what == "training":
                beat(done, total)
            progress(what, done, total)

        try:
            train(
                member.config,
                ledger.place(directory, member.name),
                data=data,
                progress=advance,
                split="valid",
                notice=False,
            )
        except Exception as error:  # whatever stops a member must not stop the others
            return fail(member, directory, error)
    return ""


def fail(member: Member, directory: Path, error: Exception) -> str:
    """Record a member's failure; an error that is no user's mistake keeps its traceback in the log."""
    unexpected = None if isinstance(error, DeeplightError) else error
    _LOG.error("member %s (%s) failed: %s", member.name, describe(member.point), error, exc_info=unexpected)
    return ledger.record_failure(directory, member.name, error)


def run_warmup(member: Member, directory: Path, data: Prepared, progress: Progress) -> None:
    """Train the warm-up that a member starts from, unless it is there."""
    if member.warmup_config is None:
        return

    def advance(what: str, done: int, total: int) -> None:
        progress(f"warm-up: {what}", done, total)

    train(
        member.warmup_config, directory / "warmup" / member.warmup, data=data, progress=advance, split="valid"
    )


def _run_warmups(
    members: Sequence[Member], directory: Path, data: Prepared, progress: Progress
) -> list[Member]:
    """Members whose warm-up is done; those whose warm-up failed are recorded as failed."""
    errors: dict[str, Exception | None] = {}
    ready = []
    for member in members:
        if member.warmup not in errors:
            try:
                run_warmup(member, directory, data, progress)
                errors[member.warmup] = None
            except Exception as error:
                errors[member.warmup] = error
        if error := errors[member.warmup]:
            fail(member, directory, RunError(f"its warm-up failed: {error}"))
        else:
            ready.append(member)
    return ready


def _is_done(member: Member, directory: Path) -> bool:
    return ledger.read_part(directory, member.name, "result") is not None


def _check(members: Sequence[Member], directory: Path, data: Prepared) -> None:
    """Refuse what could not begin: the model once a program, schedules and directories once a member.

    Raises:
      ConfigError: naming the member.
    """
    seen: set[str] = set()
    for member in members:
        pruned = [code for code in COMPONENT_LETTERS.values() if member.config.sparsity[code]]
        key = f"{program_key(member.config)} {pruned}"
        workdir = ledger.place(directory, member.name)
        try:
            if key not in seen:
                check(member.config, workdir, data)
            else:
                plan_of(member.config, data)
                run.check_same(workdir, member.config, data)
        except DeeplightError as error:
            raise type(error)(f"{describe(member.point)}: {error}") from error
        seen.add(key)


def _write_sweep(sweep: Sweep, members: Sequence[Member], directory: Path, data: Prepared) -> None:
    """Write sweep.json: these members, and finished ones of an earlier, other grid."""
    keys = varied(members)
    about = {m.name: _about(m, keys, data) for m in members}
    if (directory / "sweep.json").exists():
        before = ledger.read_sweep(directory)
        if before["data"]["content_hash"] != data.content_hash:
            raise RunError(
                f"{directory} holds a sweep of other data than {data.directory}; name another --workdir"
            )
        for old in before["members"]:
            if ledger.read_part(directory, old["name"], "result") is not None:
                about.setdefault(old["name"], old)
    content = {
        "format": ledger.FORMAT,
        "data": {"dir": str(data.directory.absolute()), "content_hash": data.content_hash},
        "config": to_json(sweep.config),
        "share_warmup": sweep.share_warmup,
        "members": [*about.values()],
    }
    ledger.write_json(directory / "sweep.json", content)


def _about(member: Member, keys: Sequence[str], data: Prepared) -> dict[str, Any]:
    flat = flatten(member.config)
    plan = plan_of(member.config, data)
    before = member.warmup_config.train.epochs * plan.epoch_steps if member.warmup_config else 0
    return {
        "name": member.name,
        "set": member.point,
        "point": {key: flat[key] for key in keys},
        "warmup": member.warmup,
        "steps": plan.total_steps - before,
    }
