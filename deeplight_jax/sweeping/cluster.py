"""A sweep's members as Ray tasks, on this machine or a cluster; Ray schedules them and retries lost workers.

Every machine must see the sweep's directory and the data under the same path: what a lost worker's member had
saved is what its next worker goes on from.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplight_jax.config import from_json, to_json
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.sweeping import ledger
from deeplight_jax.sweeping.members import Member
from deeplight_jax.training.stopping import unchanged

if TYPE_CHECKING:
    from deeplight_jax.sweeping.launch import Options, Progress

_LOG = logging.getLogger(__name__)
_POLL_S = 1.0


def run_on_cluster(
    members: Sequence[Member], directory: Path, options: Options, data: Prepared, progress: Progress
) -> None:
    """Train members as Ray tasks: shared warm-ups first, each member once its warm-up is there.

    Raises:
      ConfigError: Ray is not installed, no cluster is at the address, or no machine of it has what a member
        asks for.
    """
    if not members:
        return
    with _connected(options) as ray:
        task = _task(ray, options)
        place = (str(directory.absolute()), str(data.directory.absolute()))
        warm = {m.warmup: m for m in members if m.warmup}
        started = {name: task.remote("warm-up", _packed(m), *place) for name, m in warm.items()}
        waiting = {task.remote("member", _packed(m), *place, started.get(m.warmup)): m for m in members}
        _collect(ray, waiting, directory, progress)


def _collect(ray: Any, waiting: dict[Any, Member], directory: Path, progress: Progress) -> None:
    """Wait for every task; one whose worker was lost too often is recorded as failed."""
    total = len(waiting)
    while waiting:
        progress("members", total - len(waiting), total)
        ready, _ = ray.wait([*waiting], timeout=_POLL_S)
        for reference in ready:
            member = waiting.pop(reference)
            try:
                ray.get(reference)
            except Exception as error:
                reason = _reason(ray, error)
                _LOG.error("member %s: %s", member.name, reason)
                ledger.record_failure(directory, member.name, RunError(reason))
    progress("members", total, total)


def _reason(ray: Any, error: Exception) -> str:
    """Why a member's task did not end by itself: what a member does wrong its task writes down."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return f"its warm-up failed: {getattr(error, 'cause', error)}"
    return f"its worker was lost: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


def _task(ray: Any, options: Options) -> Any:
    environment: dict[str, str] = {}
    if 0 < options.num_gpus < 1:  # members that share an accelerator share its memory
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * options.num_gpus:.3f}"
    settings = {"num_cpus": options.num_cpus, "num_gpus": options.num_gpus, "max_retries": options.retries}
    if environment:
        settings["runtime_env"] = {"env_vars": environment}
    return ray.remote(**settings)(_work)


def _work(
    kind: str, packed: dict[str, Any], directory: str, data_directory: str, _after: None = None
) -> None:
    """What a worker does: train a warm-up, which may raise, or a member, whose failure is written down.

    `_after` is a warm-up's task: Ray starts this one when that has ended.
    """
    from deeplight_jax.sweeping.launch import fail, run_member, run_warmup

    member = _unpacked(packed)
    if kind == "warm-up":
        data = open_prepared(data_directory, verify=member.config.data.verify)
        run_warmup(member, Path(directory), data, lambda *_: None)
        return
    try:
        data = open_prepared(data_directory, verify=member.config.data.verify)
        run_member(member, Path(directory), data, lambda *_: None)
    except Exception as error:
        fail(member, Path(directory), error)


def _packed(member: Member) -> dict[str, Any]:
    """A member as plain values."""
    warm = member.warmup_config
    texts = {"config": to_json(member.config), "warmup_config": to_json(warm) if warm is not None else ""}
    return {"name": member.name, "point": member.point, "warmup": member.warmup, **texts}


def _unpacked(packed: dict[str, Any]) -> Member:
    warm = from_json(packed["warmup_config"]) if packed["warmup_config"] else None
    return Member(packed["name"], packed["point"], from_json(packed["config"]), packed["warmup"], warm)


@contextmanager
def _connected(options: Options) -> Iterator[Any]:
    """Ray, connected to a running cluster or to one started here and ended afterwards."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--backend ray needs Ray: pip install 'deeplight-jax[sweep]'") from error
    already = ray.is_initialized()
    try:
        if already:
            pass
        elif options.address:
            with unchanged():  # Ray's own handler of SIGTERM would end the program without a word
                ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            with unchanged(), warnings.catch_warnings():
                # JAX warns of every fork; Ray's children replace themselves at once
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        _check_resources(ray.cluster_resources(), options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"no Ray cluster at {options.address or 'this machine'}: {error}") from error
    try:
        yield ray
    finally:
        if not already:
            ray.shutdown()


def _check_resources(cluster: Mapping[str, float], options: Options) -> None:
    for kind, asked in (("CPU", options.num_cpus), ("GPU", options.num_gpus)):
        if asked > cluster.get(kind, 0.0):
            raise ConfigError(
                f"a member asks for {asked:g} {kind}, the cluster has {cluster.get(kind, 0.0):g}; "
                f"lower --num-{kind.lower()}s"
            )
