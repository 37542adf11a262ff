"""The `deeplight sweep` and `deeplight best` commands."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deeplight_jax.errors import ConfigError, DeeplightError
from deeplight_jax.training.stopping import import_jax, reading_config

_BACKEND_OF = {
    **dict.fromkeys(("layout", "per_device"), "compiled"),
    **dict.fromkeys(("address", "num_cpus", "num_gpus", "retries"), "ray"),
}
"""Options that one backend alone reads."""


def add_sweep(commands: Any, out: Console, err: Console) -> None:
    """Add the commands to argparse's sub-parsers; tables go to `out`, progress to `err`."""
    sweep = commands.add_parser(
        "sweep",
        help="a grid of runs; goes on where an interrupted one stopped",
        epilog="Any key that the grid does not set can be overridden: --config.data.dir=DIR",
        allow_abbrev=False,
    )
    sweep.add_argument("--config", metavar="FILE.py[:ARG]", help="sweep's file; it runs as Python code")
    sweep.add_argument("--workdir", type=Path, metavar="SWEEP", help="directory of the sweep")
    sweep.add_argument("--status", type=Path, metavar="SWEEP", help="say where a sweep stands instead")
    _add_options(sweep)
    sweep.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sweep.set_defaults(run=partial(_sweep, out, err))
    best = commands.add_parser(
        "best", help="a sweep's best member within a latency and a size", allow_abbrev=False
    )
    best.add_argument("--sweep", required=True, type=Path, metavar="SWEEP", help="directory of a sweep")
    best.add_argument("--max-latency-us", type=float, metavar="X", help="p50 of one row, as measured")
    best.add_argument("--max-bytes", metavar="SIZE", help="memory of the engine, table included: 10MB, 8MiB")
    best.add_argument("--metric", default="log_loss", choices=("log_loss", "roc_auc"),
                      help="what is best, on the validation split")  # fmt: skip
    best.add_argument(
        "--search", type=int, default=0, metavar="N", help="first add up to N members around the front"
    )
    _add_options(best)
    best.add_argument("--json", action="store_true", help="print JSON instead of a table")
    best.set_defaults(run=partial(_best, out, err))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="compiled", choices=("sequential", "compiled", "ray"),
                        help="one run after the other, many in one program, or a Ray task each")  # fmt: skip
    parser.add_argument(
        "--layout", type=int, metavar="N", help="compiled: members at once on a device (0: chosen)"
    )
    parser.add_argument(
        "--per-device",
        type=int,
        metavar="N",
        help="compiled: members held on a device (0: memory)",
    )
    parser.add_argument("--address", help="ray: of a running cluster (default: start one here)")
    parser.add_argument("--num-cpus", type=float, metavar="X", help="ray: cores a member (1)")
    parser.add_argument("--num-gpus", type=float, metavar="X", help="ray: accelerators a member (0)")
    parser.add_argument("--retries", type=int, metavar="N", help="ray: after a lost worker (3)")
    parser.add_argument("--no-measure", action="store_true", help="do not measure the serving engine")


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of `launch.Options` that were given."""
    given = {name: value for name in _BACKEND_OF if (value := getattr(arguments, name)) is not None}
    for name in given:
        if _BACKEND_OF[name] != arguments.backend:
            raise ConfigError(f"--{name.replace('_', '-')} says nothing to --backend {arguments.backend}; "
                              f"leave it out, or name --backend {_BACKEND_OF[name]}")  # fmt: skip
    return {"backend": arguments.backend, **given, "measure": not arguments.no_measure}


def _sweep(out: Console, err: Console, arguments: argparse.Namespace, overrides: list[str]) -> None:
    if arguments.status:
        if arguments.config or arguments.workdir or overrides:
            raise ConfigError("sweep --status SWEEP stands alone; leave --config and --workdir out")
        _print_status(out, arguments.status, arguments.json)
        return
    if not (arguments.config and arguments.workdir):
        raise ConfigError("give sweep --config FILE.py and --workdir SWEEP, or --status SWEEP")
    from deeplight_jax.data.prepared import open_prepared
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.sweep_tables import MembersTable
    from deeplight_jax.sweeping.grid import load_sweep
    from deeplight_jax.sweeping.results import rows

    options = _options(arguments)
    with reading_config():
        sweep = load_sweep(arguments.config, overrides)
    data = open_prepared(sweep.config.data.dir, verify=sweep.config.data.verify)
    import_jax()
    from deeplight_jax.sweeping.launch import Options, run_sweep

    with progress_bars(err) as advance:
        status = run_sweep(sweep, arguments.workdir, Options(**options), data=data, progress=advance)
    if arguments.json:
        found = {"status": status.to_json(), "members": rows(arguments.workdir)}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        title = f"{arguments.workdir}: {len(status.done)} of {status.members} members"
        out.print(MembersTable(title, rows(arguments.workdir)))
    if status.failed:
        reasons = "; ".join(f"{name}: {error}" for name, error in [*status.failed.items()][:3])
        raise DeeplightError(
            f"{len(status.failed)} of {status.members} members failed: {reasons}; "
            "the same command tries them again"
        )


def _print_status(out: Console, directory: Path, as_json: bool) -> None:
    from deeplight_jax.reporting.sweep_tables import status_table
    from deeplight_jax.sweeping.ledger import status

    found = status(directory)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")
    else:
        out.print(status_table(str(directory), found))


def _best(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax.data.encode import parse_bytes
    from deeplight_jax.reporting.pareto import draw_pareto
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.sweep_tables import MembersTable
    from deeplight_jax.sweeping import ledger
    from deeplight_jax.sweeping.choose import Budget, choose
    from deeplight_jax.sweeping.results import rows

    most = None if arguments.max_bytes is None else parse_bytes(arguments.max_bytes)
    budget = Budget(arguments.max_latency_us, most)
    with progress_bars(err) as advance:
        if arguments.search:
            options = _options(arguments)
            import_jax()
            from deeplight_jax.sweeping.launch import Options
            from deeplight_jax.sweeping.search import search

            search(arguments.sweep, arguments.search, budget, arguments.metric, Options(**options), advance)
        found = choose(arguments.sweep, budget, arguments.metric, advance)
    name = found.row["name"]
    out_file = arguments.sweep / "pareto.png"
    drawn = _drawn(partial(draw_pareto, rows(arguments.sweep), found.front, name, out_file, arguments.metric))
    if arguments.json:
        sys.stdout.write(json.dumps({**found._asdict(), "figure": drawn}) + "\n")
        return
    shown = found.front if found.row in found.front else [*found.front, found.row]
    within = f"{found.within} of {found.finished} members within the budget"
    title = f"{arguments.sweep}: {within}; those on the Pareto front, * chosen on validation"
    out.print(MembersTable(title, shown, name, among=rows(arguments.sweep)))
    out.print(f"chosen: {arguments.sweep / 'members' / name}", markup=False, highlight=False, soft_wrap=True)
    on = (ledger.read_part(arguments.sweep, name, "test") or {}).get("split", "test")
    out.print(f"on {on}: ROC AUC {found.row['test_roc_auc']:.4f}, log loss {found.row['test_log_loss']:.4f}")
    if drawn:
        out.print(f"figure: {drawn}", markup=False, highlight=False, soft_wrap=True)
    else:
        err.print(
            "no figure: matplotlib is not installed (pip install 'deeplight-jax[report]')", markup=False
        )


def _drawn(draw: Any) -> str:
    """Path of the figure, "" where matplotlib is missing."""
    try:
        return str(draw())
    except ModuleNotFoundError:
        return ""
