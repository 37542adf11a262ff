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


def add_serving(commands: Any, out: Console, err: Console) -> None:
    """Add the commands to argparse's sub-parsers; tables go to `out`, progress to `err`."""
    export = commands.add_parser(
        "export", help="a run's projected model as one file to serve, or a check of it", allow_abbrev=False
    )
    export.add_argument("--run", required=True, dest="workdir", metavar="RUN[@STEP]")
    export.add_argument("--out", type=Path, metavar="FILE.safetensors")
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
    score = commands.add_parser("score", help="click probabilities of prepared rows", allow_abbrev=False)
    score.add_argument("--artifact", required=True, type=Path, metavar="FILE.safetensors")
    score.add_argument("--data", required=True, type=Path, metavar="DIR")
    score.add_argument("--split", default="test", choices=("train", "valid", "test"))
    score.add_argument("--out", required=True, type=Path, metavar="FILE.parquet|FILE.csv")
    score.set_defaults(run=partial(_score, out, err))


def _export(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.reporting.tables import certificate_table
    from deeplight_jax.serving.export import export, verify

    if (arguments.out is None) == (arguments.verify is None):
        raise ConfigError("give export either --out FILE.safetensors or --verify FILE.safetensors")
    with progress_bars(err) as advance:
        if arguments.verify:
            engine = verify(arguments.verify, arguments.workdir, arguments.data, advance)
        else:
            engine = export(arguments.workdir, arguments.out, arguments.data, advance, arguments.table)
    file = arguments.verify or arguments.out
    certificate, counts = engine.about["certificate"], engine.compact.counts()
    if arguments.json:
        found = {"certificate": certificate, "counts": counts, "bytes": file.stat().st_size}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    out.print(certificate_table(f"{file}, {file.stat().st_size:,} bytes", certificate, counts))


def _score(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax import serving
    from deeplight_jax.data.prepared import open_prepared
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.serving.scoring import score_split

    engine = serving.load(arguments.artifact)
    data = open_prepared(arguments.data)
    with progress_bars(err) as advance:
        rows = score_split(engine, data, arguments.split, arguments.out, advance)
    out.print(f"{rows:,} scores: {arguments.out}", markup=False, highlight=False)
