"""The command `deeplight bench`: an artifact's engine beside what one would deploy instead."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console


def add_bench(commands: Any, out: Console, err: Console) -> None:
    """Add the command to argparse's sub-parsers; tables go to `out`, progress to `err`."""
    bench = commands.add_parser(
        "bench", help="an artifact's speed and size beside its rivals', on one core", allow_abbrev=False
    )
    bench.add_argument("--artifact", required=True, type=Path, metavar="FILE.safetensors",
                       help="of deeplight export")  # fmt: skip
    bench.add_argument(
        "--against",
        default="onnxruntime,torch,jax,scipy",
        metavar="LIBRARY,...",
        help="default: all; what is not installed is named and left out; none: the engine alone",
    )
    bench.add_argument(
        "--rows", default="cold", choices=("cold", "warm"), help="uniform over the table (default), or Zipf"
    )
    bench.add_argument(
        "--run",
        dest="workdir",
        metavar="RUN[@STEP]",
        help="dense rivals of its trained weights, not of the artifact alone",
    )
    bench.add_argument("--level", metavar="LEVEL", help="numpy, avx512, avx2 or portable")
    bench.add_argument("--flush", action="store_true", help="also one row with the caches flushed before it")
    bench.add_argument(
        "--sweep-rate", action="store_true", help="also random nets of these widths, pruned by 0 to 99.5 %%"
    )
    bench.add_argument("--rounds", type=int, default=5, metavar="N", help="figures are medians over so many")
    bench.add_argument(
        "--seconds", type=float, default=0.3, metavar="X", help="a rival, batch size and round"
    )
    bench.add_argument("--out", type=Path, metavar="FILE.png", help="draw a figure, too")
    bench.add_argument("--json", action="store_true", help="print JSON instead of tables")
    bench.set_defaults(run=partial(_bench, out, err))


def _bench(out: Console, err: Console, arguments: argparse.Namespace, _: list[str]) -> None:
    from deeplight_jax.reporting.bench_figures import check_figure_file, write_bench_figure
    from deeplight_jax.reporting.bench_tables import bench_tables
    from deeplight_jax.reporting.progress import progress_bars
    from deeplight_jax.serving.comparison import compare

    if arguments.out:
        check_figure_file(arguments.out)
    names = [name.strip() for name in arguments.against.split(",")]
    with progress_bars(err) as advance:
        found = compare(
            arguments.artifact,
            [] if names == ["none"] else names,
            arguments.rows,
            arguments.rounds,
            arguments.seconds,
            run=arguments.workdir,
            level=arguments.level,
            flush=arguments.flush,
            sweep=arguments.sweep_rate,
            progress=advance,
        )
    if arguments.out:
        write_bench_figure(found, arguments.out)
    if arguments.json:
        sys.stdout.write(json.dumps(found.to_json(), allow_nan=False) + "\n")
        return
    for table in bench_tables(found):
        out.print(table)
