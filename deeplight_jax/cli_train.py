"""`deeplight train`, on one host or several."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from deeplight_jax.errors import ConfigError, DeeplightError
from deeplight_jax.training.stopping import import_jax, reading_config


def add_train(commands: Any, out: Console, err: Console) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "train",
        help="train and prune a model; goes on where an interrupted run stopped",
        epilog="Any config key can be overridden: --config.sparsity.dnn=0.99 --config.train.epochs=3",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARG]", help="config file; it runs as Python code"
    )
    parser.add_argument("--workdir", required=True, type=Path, metavar="RUN", help="directory of the run")
    parser.add_argument(
        "--hosts",
        metavar="N|auto",
        help="train on N hosts, each started with the same command and its own --host; auto: Slurm, GKE, "
        "a TPU pod or MPI says who they are",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where the others reach host 0")
    parser.add_argument("--host", type=int, metavar="I", help="number of this host, from 0")
    parser.add_argument(
        "--heartbeat", type=int, metavar="SECONDS", help="the others end so long after a host is lost (30)"
    )
    parser.set_defaults(run=lambda arguments, overrides: _train(arguments, overrides, out, err))


def _train(arguments: argparse.Namespace, overrides: list[str], out: Console, err: Console) -> None:
    from deeplight_jax.config import load_config
    from deeplight_jax.data.prepared import open_prepared
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import results_table

    _check_hosts(arguments)
    with reading_config():
        config = load_config(arguments.config, overrides)
    alone = arguments.hosts is None  # several open their data once all are there to hear of a mistake
    data = open_prepared(config.data.dir, verify=config.data.verify) if alone else None
    import_jax()
    from deeplight_jax.training.loop import train

    tells = _join(arguments)
    with _leaving(err), progress_bars(err) if tells else nullcontext() as advance:
        result = train(config, arguments.workdir, data=data, progress=advance)
    if tells:
        out.print(results_table(f"{arguments.workdir}: {result['split']} split", {result["model"]: result}))


@contextmanager
def _leaving(err: Console) -> Iterator[None]:
    """One of several hosts ends with its error, instead of waiting at its exit for the others."""
    from deeplight_jax.training import hosts

    try:
        yield
    except DeeplightError as error:
        if not hosts.are_several():
            raise
        print_error(err, error)
        hosts.leave(2)


def print_error(err: Console, error: DeeplightError) -> None:
    """The one line that a command ends with."""
    err.print(f"deeplight: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def _check_hosts(arguments: argparse.Namespace) -> None:
    """Refuse options of several hosts that make no sense together."""
    by_hand = arguments.coordinator is not None, arguments.host is not None
    if arguments.hosts is None:
        if any(by_hand) or arguments.heartbeat is not None:
            raise ConfigError("--coordinator, --host and --heartbeat go with --hosts")
        return
    if arguments.heartbeat is not None and arguments.heartbeat < 1:
        raise ConfigError(f"--heartbeat {arguments.heartbeat}: use 1 or more seconds")
    numbered = arguments.hosts.isdecimal()
    if not numbered and arguments.hosts != "auto":
        raise ConfigError(f"--hosts {arguments.hosts}: give a number, or auto")
    if by_hand != (numbered, numbered):
        raise ConfigError(
            "--hosts N needs --coordinator HOST:PORT and --host I"
            if numbered
            else "--hosts auto finds --coordinator and --host by itself; leave them out"
        )


def _join(arguments: argparse.Namespace) -> bool:
    """Find the other hosts, if there are any; returns whether this one tells what goes on."""
    if arguments.hosts is None:
        return True
    from deeplight_jax.training import hosts

    count = int(arguments.hosts) if arguments.hosts.isdecimal() else 0
    hosts.join(arguments.coordinator or "", count, arguments.host, arguments.heartbeat or hosts.HEARTBEAT_S)
    return hosts.is_first()
