"""The `deeplight` command: flags in, library calls out, tables back."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler

from deeplight_jax import __version__
from deeplight_jax.cli_bench import add_bench
from deeplight_jax.cli_masks import add_masks
from deeplight_jax.cli_report import add_report
from deeplight_jax.cli_serving import add_serving
from deeplight_jax.cli_sweep import add_sweep
from deeplight_jax.cli_train import add_train, print_error
from deeplight_jax.errors import ConfigError, DataError, DeeplightError
from deeplight_jax.training.stopping import Terminated, import_jax, terminable

if TYPE_CHECKING:
    from deeplight_jax.data.recipes import Recipe

_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120  # of tables in files and pipes
_SAVING = ("train", "sweep", "best", "table", "quickstart")
_OUT, _ERR = Console(width=_WIDTH), Console(stderr=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 2 a mistake in what was given, 130 interrupted).

    SIGTERM ends a command as Ctrl-C does: with 0 those that save and go on, with 143 the others.
    """
    return run_command(argv)[0]


def run_command(argv: Sequence[str] | None) -> tuple[int, bool]:
    """`main`'s exit status, and whether a signal ended the command."""
    arguments, rest = _parser().parse_known_args(argv)
    overrides = _overrides(arguments, rest)
    log = logging.getLogger("deeplight_jax")
    log.setLevel(logging.INFO)
    log.handlers[:], log.propagate = [RichHandler(console=_ERR, show_path=False, show_time=False)], False
    for library in ("absl", "asyncio"):  # Orbax' threads log, with tracebacks, what it raises and we tell
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        with terminable():
            arguments.run(arguments, overrides)
    except DeeplightError as error:
        print_error(_ERR, error)
        return 2, False
    except (KeyboardInterrupt, Terminated) as signal:
        saves, terminated = arguments.command in _SAVING, isinstance(signal, Terminated)
        how = "the same command goes on from the last checkpoint" if saves else "run the command again"
        _ERR.print(f"deeplight: {'ended by SIGTERM' if terminated else 'interrupted'}; {how}", soft_wrap=True)
        return 130 if not terminated else 0 if saves else 143, True
    return 0, False


def _overrides(arguments: argparse.Namespace, rest: list[str]) -> list[str]:
    """`--config.a.b=v` and `--config.a.b v` as `a.b=v`; anything else unknown is refused."""
    overrides: list[str] = []
    words = iter(rest)
    for word in words:
        if not word.startswith("--config.") or arguments.command not in ("train", "table", "sweep"):
            _parser().error(f"unrecognized argument '{word}' for {arguments.command}")
        item = word.removeprefix("--config.")
        overrides.append(item if "=" in item else f"{item}={next(words, '')}")
    return overrides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deeplight", description="DeepLight in JAX: train, prune, serve.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(
        commands.add_parser(
            "prepare", help="raw click-log rows into arrays and vocabularies", allow_abbrev=False
        )
    )
    add_train(commands, _OUT, _ERR)
    evaluate = commands.add_parser("eval", help="metrics of a run's projected model", allow_abbrev=False)
    evaluate.add_argument(
        "--run", required=True, dest="workdir", metavar="RUN[@STEP]", help="a run, by default its best step"
    )
    evaluate.add_argument(
        "--split", default="test", choices=("train", "valid", "test"), help="rows to evaluate on"
    )
    evaluate.add_argument(
        "--data", type=Path, metavar="DIR", help="other rows, prepared with --vocab of the run's data"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.set_defaults(run=_evaluate)
    add_serving(commands, _OUT, _ERR)
    add_bench(commands, _OUT, _ERR)
    _add_table(commands.add_parser("table", help="a table of the paper, ours beside it", allow_abbrev=False))
    add_sweep(commands, _OUT, _ERR)
    masks = commands.add_parser("masks", help="runs' masks: shown, compared, merged", allow_abbrev=False)
    add_masks(masks, _OUT)
    add_report(commands, _OUT, _ERR)
    quickstart = commands.add_parser(
        "quickstart", help="dense against pruned on a planted world", allow_abbrev=False
    )
    quickstart.add_argument(
        "--workdir", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="data and runs go here"
    )
    quickstart.add_argument("--rows", type=int, metavar="N", help="rows of the planted world")
    quickstart.set_defaults(run=_quickstart)
    return parser


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", choices=("3", "4", "5", "6", "models", "criteria"),
                        help="models: every model there is; criteria: other ways to prune")  # fmt: skip
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="prepared rows")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="RUNS", help="finished runs in it are not run again"
    )
    parser.add_argument(
        "--config", metavar="FILE.py", help="how a row is trained (default: experiments/DATASET_baselines.py)"
    )
    parser.add_argument(
        "--paper", choices=("criteo", "avazu"), help="whose figures (default: by the data's recipe)"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs a row")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_table)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", choices=("criteo", "avazu", "csv", "libsvm", "synthetic"),
                        help="layout of the raw rows; synthetic: none, a planted world is drawn")  # fmt: skip
    parser.add_argument(
        "raw", nargs="*", type=Path, metavar="RAW", help="raw files, in order (.gz and .zst too)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="directory to make")
    parser.add_argument("--valid", nargs="+", type=Path, default=[], metavar="RAW", help="validation rows")
    parser.add_argument("--test", nargs="+", type=Path, default=[], metavar="RAW", help="test rows")
    parser.add_argument(
        "--columns", type=Path, metavar="FILE.toml", help="csv: label, numeric, categorical, split columns"
    )
    parser.add_argument(
        "--vocab",
        type=Path,
        metavar="PREPARED_DIR",
        help="encode a later day with this vocabulary: one split, test",
    )
    parser.add_argument(
        "--min-count", type=int, metavar="N", help="rarer values become the field's unknown row"
    )
    parser.add_argument(
        "--numeric",
        choices=("value", "floor", "bucket"),
        help="numeric fields: as a value, floored (released program), or as categories",
    )
    parser.add_argument("--hash-buckets", nargs="+", metavar="FIELD=N[:qr]",
                        help="fields that are hashed to N table rows, without a vocabulary")  # fmt: skip
    parser.add_argument("--vocab-scope", choices=("train", "all"), help="rows whose values are counted")
    parser.add_argument("--test-fraction", type=float, metavar="X", help="of all rows")
    parser.add_argument(
        "--valid-fraction", type=float, metavar="X", help="of the rows that are not test rows"
    )
    parser.add_argument("--split-seed", type=int, metavar="N", help="of the draw of test and validation rows")
    parser.add_argument(
        "--max-bad-rows", type=int, metavar="N", help="stop when more lines than this are malformed"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="the output is the same at any number")
    parser.add_argument("--memory-limit", default="4GB", metavar="SIZE", help="what is over it goes to disk")
    parser.add_argument("--rows", type=int, metavar="N", help="synthetic: rows to draw")
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax.data.synthetic import World, prepare_synthetic
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import prepared_table

    _check_prepare(arguments)
    if arguments.recipe == "synthetic":
        world = World() if arguments.rows is None else World(rows=arguments.rows)
        with progress_bars(_ERR) as advance:
            data = prepare_synthetic(arguments.out, world, advance)
        _OUT.print(prepared_table(data.manifest))
        return
    from deeplight_jax.data.encode import prepare

    names = ("min_count", "numeric", "vocab_scope", "test_fraction", "valid_fraction", "split_seed")
    options: dict[str, Any] = {n: v for n in names if (v := getattr(arguments, n)) is not None}
    if arguments.hash_buckets:
        options["hash_buckets"] = tuple(arguments.hash_buckets)
    with progress_bars(_ERR) as advance:
        data = prepare(
            replace(_recipe(arguments), **options),
            arguments.raw,
            arguments.out,
            valid=arguments.valid,
            test=arguments.test,
            vocab=arguments.vocab,
            threads=arguments.threads,
            memory_limit=arguments.memory_limit,
            max_bad_rows=arguments.max_bad_rows,
            progress=lambda what, fraction: advance(what, round(100 * fraction), 100),
        )
    _OUT.print(prepared_table(data.manifest))


def _check_prepare(arguments: argparse.Namespace) -> None:
    """Refuse options that would mean nothing beside the others."""
    meaning = ("min_count", "numeric", "hash_buckets", "vocab_scope")
    drawing = ("test_fraction", "valid_fraction", "split_seed")
    reading = ("raw", "columns", "valid", "test", "vocab", "max_bad_rows", "threads")
    if arguments.recipe == "synthetic":
        _leave_out(arguments, (*reading, *meaning, *drawing), "the synthetic world is made, not read")
    else:
        _leave_out(arguments, ("rows",), "raw rows are read, all of them; the synthetic world alone is drawn")
    if arguments.vocab:
        _leave_out(arguments, (*meaning, *drawing), "--vocab encodes as its data was, into one split")
    for split in ("valid", "test"):
        if getattr(arguments, split) and getattr(arguments, f"{split}_fraction") is not None:
            raise DataError(f"--{split} names the rows, so --{split}-fraction draws none; give one of them")


def _leave_out(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(arguments, name) not in (None, []):
            option = "the raw files" if name == "raw" else f"--{name.replace('_', '-')}"
            raise DataError(f"{why}; leave {option} out")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from deeplight_jax.data.recipes import RECIPES
    from deeplight_jax.data.tabular import csv_recipe, libsvm_recipe

    if arguments.columns and arguments.recipe != "csv":
        raise DataError(f"--columns describes csv files; recipe {arguments.recipe} knows its columns")
    if arguments.recipe in RECIPES:
        return RECIPES[arguments.recipe]
    if not arguments.raw:
        raise DataError("no raw files given; name at least one")
    if arguments.recipe == "libsvm":
        return libsvm_recipe(arguments.raw[0])
    if arguments.columns is None:
        raise DataError("csv needs --columns FILE.toml, which names the label and the other columns")
    return csv_recipe(arguments.columns, arguments.raw[0])


def _evaluate(arguments: argparse.Namespace, _: list[str]) -> None:
    import_jax()
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import results_table
    from deeplight_jax.training.inspect import evaluate

    with progress_bars(_ERR) as advance:
        found = evaluate(arguments.workdir, arguments.split, arguments.data, advance)
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    _OUT.print(
        results_table(f"{arguments.workdir}, step {found['step']}", {f"{arguments.split} split": found})
    )


def _table(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from deeplight_jax.data.prepared import open_prepared

    if arguments.seeds < 1:
        raise ConfigError(f"--seeds {arguments.seeds}: use 1 or more")
    data = open_prepared(arguments.data)
    import_jax()
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import paper_table
    from deeplight_jax.sweeping.paper import run_table, table_entries

    recipe = data.manifest.get("recipe", {}).get("name", "synthetic")
    paper = arguments.paper or ("avazu" if recipe == "avazu" else "criteo")
    entries = table_entries(arguments.table, paper, compare=bool(arguments.paper) or recipe == paper)
    file = arguments.config or f"experiments/{paper}_baselines.py"
    if ":" in file:
        raise ConfigError(f"--config {file}: name the file alone; the rows of the table are its arguments")
    with progress_bars(_ERR) as advance:
        lines = run_table(
            entries,
            file,
            data,
            arguments.out,
            seeds=arguments.seeds,
            overrides=[f"data.dir={arguments.data}", *overrides],
            progress=advance,
        )
    if arguments.json:
        found = {e.argument: {"results": r, "failure": f, "paper": e.published and e.published._asdict()}
                 for e, r, f in lines}  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _OUT.print(paper_table(_table_title(arguments, recipe, data.split("train").rows), lines))
    if failed := [line.entry.argument for line in lines if line.failure]:
        raise DeeplightError(
            f"{len(failed)} rows failed: {', '.join(failed)}; the same command tries them again"
        )


def _table_title(arguments: argparse.Namespace, recipe: str, rows: int) -> str:
    seeds = "seed" if arguments.seeds == 1 else "seeds, mean ± standard deviation"
    about = f"{recipe}, {rows:,} train rows, {arguments.seeds} {seeds}"
    return f"table {arguments.table} on {arguments.data} ({about})"


def _quickstart(arguments: argparse.Namespace, _: list[str]) -> None:
    import_jax()
    from deeplight_jax.quickstart import CODE, WORLD, quickstart
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import results_table

    world = WORLD if arguments.rows is None else replace(WORLD, rows=arguments.rows)
    with progress_bars(_ERR) as advance:
        found = quickstart(arguments.workdir, world, advance)
    columns = {"best reachable": found.best, "dense": found.dense, f"pruned {CODE}": found.pruned}
    chance = found.planted * found.kept / found.pairs
    planted = f"{found.survived} of {found.planted} (chance: {chance:.0f})"
    kept = f"{found.kept} of {found.pairs}"
    extra = [
        ("field pairs kept", ("-", str(found.pairs), kept)),
        ("planted pairs kept", ("-", str(found.planted), planted)),
    ]
    _OUT.print(results_table("DeepFwFM on a planted world, test split", columns, extra))
    _OUT.print(f"runs, metrics and TensorBoard events: {arguments.workdir}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
