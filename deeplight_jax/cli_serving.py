"""The serving commands of `deeplight`: export and score."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deeplight_jax.errors import ConfigError
from deeplight_jax.training.stopping import import_jax


def add_serving(commands: Any, out: Console, err: Console) -> None:
    """Add the commands to argparse's sub-parsers; tables go to `out`, progress to `err`."""
    export = commands.add_parser(
        "export", help="a run's projected model as one file to serve, or a check of it", allow_abbrev=False
    )
    export.add_argument("--run", required=True, dest="workdir", metavar="RUN[@STEP]",
                        help="a run, by default its best step")  # fmt: skip
    export.add_argument("--out", type=Path, metavar="FILE.safetensors", help="file to write")
    export.add_argument(
        "--verify", type=Path, metavar="FILE.safetensors", help="repeat that file's certificate instead"
    )
    export.add_argument(
        "--data", type=Path, metavar="DIR", help="rows to certify on (default: the run's own data)"
    )
    export.add_argument(
        "--table", default="f32", choices=("f32", "bf16", "int8", "packed"), help="how embeddings are stored"
    )
    export.add_argument("--json", action="store_true", help="print JSON instead of a table")
    export.set_defaults(run=partial(_export, out, err))
    _add_score(
        commands.add_parser("score", help="click probabilities of rows, raw or prepared", allow_abbrev=False),
        out,
        err,
    )


def _add_score(parser: argparse.ArgumentParser, out: Console, err: Console) -> None:
    parser.add_argument("--artifact", required=True, type=Path, metavar="FILE.safetensors",
                        help="of deeplight export")  # fmt: skip
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument(
        "--raw",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="raw rows (.gz, .zst too); no label needed",
    )
    rows.add_argument("--data", type=Path, metavar="DIR", help="prepared rows")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="of --data (default: test)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.parquet|FILE.csv",
                        help="scores; the ending says how")  # fmt: skip
    parser.add_argument(
        "--max-bad-rows", type=int, metavar="N", help="--raw: stop when more lines than this are malformed"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="--raw: the same scores at any number")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_score, out, err))


def _export(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    if (arguments.out is None) == (arguments.verify is None):
        raise ConfigError("give export either --out FILE.safetensors or --verify FILE.safetensors")
    import_jax()
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import certificate_table
    from deeplight_jax.serving.export import export, verify

    with progress_bars(err) as advance:
        if arguments.verify:
            engine = verify(arguments.verify, arguments.workdir, arguments.data, advance)
        else:
            engine = export(arguments.workdir, arguments.out, arguments.data, advance, arguments.table)
    file = arguments.verify or arguments.out
    certificate, counts = engine.about["certificate"], engine.model.counts()
    if arguments.json:
        found = {"certificate": certificate, "counts": counts, "bytes": file.stat().st_size}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    out.print(certificate_table(f"{file}, {file.stat().st_size:,} bytes", certificate, counts))


def _score(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax import serving
    from deeplight_jax.data.prepared import open_prepared
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import rejected_table
    from deeplight_jax.serving.raw import score_raw
    from deeplight_jax.serving.scoring import score_split

    _check_score(arguments)
    engine = serving.load(arguments.artifact)
    scored: dict[str, Any]
    with progress_bars(err) as advance:
        if arguments.raw:
            scored = score_raw(
                engine,
                arguments.raw,
                arguments.out,
                max_bad_rows=arguments.max_bad_rows,
                threads=arguments.threads,
                progress=advance,
            )
        else:
            data, split = open_prepared(arguments.data), arguments.split or "test"
            scored = {"rows": score_split(engine, data, split, arguments.out, advance)}
    if arguments.json:
        sys.stdout.write(json.dumps(scored) + "\n")
        return
    out.print(f"{scored['rows']:,} scores: {arguments.out}", markup=False, highlight=False)
    if scored.get("rejected", {}).get("total"):
        out.print(rejected_table(scored["rejected"]))


def _check_score(arguments: argparse.Namespace) -> None:
    """Refuse options that would mean nothing beside the others."""
    if arguments.raw and arguments.split:
        raise ConfigError("--split names rows of --data; raw rows have none, leave it out")
    for name in ("max_bad_rows", "threads"):
        if arguments.data and getattr(arguments, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is of --raw; prepared rows are read as they are")
