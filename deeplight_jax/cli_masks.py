"""The `deeplight masks` commands: show, diff, merge, churn."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from deeplight_jax.errors import ConfigError

if TYPE_CHECKING:
    from deeplight_jax.training.inspect import RunMasks


def add_masks(parser: argparse.ArgumentParser, out: Console) -> None:
    """Give a parser the subcommands; tables go to `out`, `--json` to standard output."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser(
        "show", help="rates, dead units, live field pairs, pruned rows", allow_abbrev=False
    )
    show.add_argument("masks_of", metavar="RUN[@STEP]|FILE", help="a run, or a file of `masks merge`")
    diff = actions.add_parser("diff", help="what two runs keep, against chance", allow_abbrev=False)
    diff.add_argument("a", metavar="RUN_A[@STEP]", help="a run, by default its best step")
    diff.add_argument("b", metavar="RUN_B[@STEP]", help="a run on the same data with the same model")
    merge = actions.add_parser(
        "merge", help="several runs' masks as one file, for sparsity.init_masks", allow_abbrev=False
    )
    merge.add_argument("--op", required=True, choices=("and", "or", "majority"), help="majority prunes ties")
    merge.add_argument(
        "runs", nargs="+", metavar="RUN[@STEP]", help="runs on the same data with the same model"
    )
    merge.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors", help="file to write")
    churn = actions.add_parser("churn", help="how masks moved, and when they settled", allow_abbrev=False)
    churn.add_argument("workdir", metavar="RUN", help="a run, finished or not")
    churn.add_argument("--settled", type=float, default=0.1, metavar="PERCENT",
                       help="settled: no more weights change sides at an event (default: 0.1)")  # fmt: skip
    for action, run in ((show, _show), (diff, _diff), (merge, _merge), (churn, _churn)):
        action.add_argument("--json", action="store_true", help="print JSON instead of tables")
        action.set_defaults(run=lambda arguments, _, run=run: _print(arguments, out, *run(arguments)))


def _show(arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[Table]]:
    from deeplight_jax.reporting.mask_tables import masks_tables
    from deeplight_jax.training.inspect import load_masks
    from deeplight_jax.training.merging import describe_file
    from deeplight_jax.training.plan import targets

    if Path(arguments.masks_of).is_file():
        described = {"file": arguments.masks_of, **describe_file(arguments.masks_of)}
        title = f"{arguments.masks_of}: {described['operation']} of {', '.join(described['runs'])}"
        return described, masks_tables(title, described)
    found = load_masks(arguments.masks_of)
    shown = {"run": arguments.masks_of, "step": found.step, **_described(found, targets(found.plan))}
    return shown, masks_tables(f"masks of {arguments.masks_of}, step {found.step}", shown)


def _diff(arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[Table]]:
    from deeplight_jax.reporting.mask_tables import diff_tables
    from deeplight_jax.training.masks_alone import compare_runs

    compared = compare_runs(arguments.a, arguments.b) or _diff_of_models(arguments)
    steps = (compared["a"]["step"], compared["b"]["step"])
    title = f"A: {arguments.a}, step {steps[0]}; B: {arguments.b}, step {steps[1]}"
    return compared, diff_tables(title, compared)


def _diff_of_models(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same with JAX and the models: of older runs, and to say what is wrong."""
    from deeplight_jax.evaluation.liveness import compare_masks
    from deeplight_jax.training.merging import load_comparable

    a, b = load_comparable([arguments.a, arguments.b])
    return {
        "a": {"run": arguments.a, "step": a.step},
        "b": {"run": arguments.b, "step": b.step},
        **compare_masks(a.masks, b.masks, a.labels, a.schema),
    }


def _merge(arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[Table]]:
    from deeplight_jax.reporting.mask_tables import masks_tables
    from deeplight_jax.training.merging import merge_masks

    merged, about = merge_masks(arguments.runs, arguments.op, arguments.out)
    shown = {"file": str(arguments.out), "op": arguments.op, "runs": about["runs"], **_described(merged, {})}
    return shown, masks_tables(f"{arguments.out}: {arguments.op} of {', '.join(about['runs'])}", shown)


def _churn(arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[Table]]:
    from deeplight_jax.reporting.mask_tables import churn_tables
    from deeplight_jax.training.settling import describe_churn

    if not 0 <= arguments.settled <= 100:
        raise ConfigError(f"--settled {arguments.settled:g} is no percentage; use 0 to 100")
    found = describe_churn(arguments.workdir, arguments.settled / 100)
    return {"run": arguments.workdir, **found}, churn_tables(f"masks of {arguments.workdir}", found)


def _described(found: RunMasks, targets: Mapping[str, float]) -> dict[str, Any]:
    from deeplight_jax.evaluation.liveness import describe_masks

    described = describe_masks(found.masks, found.labels, found.schema, targets)
    return {"model": found.config.model.name, **described}


def _print(
    arguments: argparse.Namespace, out: Console, shown: Mapping[str, Any], tables: Sequence[Table]
) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    for table in tables:
        out.print(table)
