"""Twelve members in one program against the same twelve one after the other, compilations included.

    python benchmarks/sweep.py [--rows N] [--epochs N] [--rounds N] [--layout N]

A planted world, DeepFwFM at four sets of rates and three learning rates, one dense warm-up that both have
before they begin. Each side runs in a process of its own, in turn; wall time is from the first member's start
to the last one's result. Prints both medians, their ratio, and how many programs took XLA more than a tenth
of a second.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import jax

from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.quickstart import quickstart_config
from deeplight_jax.sweeping import Sweep, axis, codes, product
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.sweeping.members import resolve
from deeplight_jax.training.loop import train

_COMPILED = "/jax/core/compile/backend_compile_duration"
_RATES = ("D90-R90-F40", "D90-R90-F90", "D99-R95-F40", "D50-R50-F20")


def sweep_over(data: Path, epochs: int) -> Sweep:
    config = quickstart_config(data).unlock()
    config.train.epochs, config.sparsity.warmup_epochs = epochs, 1.0
    return Sweep(config, product(codes(*_RATES), axis("optim.learning_rate", [1e-3, 2e-3, 3e-3])))


def one_side(folder: Path, epochs: int, backend: str, layout: int) -> dict[str, float]:
    """Run it in this process; the warm-up is there."""
    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILED and duration_secs > 0.1:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    logging.disable(logging.WARNING)
    data, out = open_prepared(folder / "data"), folder / backend
    began = time.perf_counter()
    status = run_sweep(
        sweep_over(folder / "data", epochs), out, Options(backend, layout, measure=False), data=data
    )
    seconds = time.perf_counter() - began
    assert not status.failed, status.failed
    return {"seconds": seconds, "compilations": len(compiled), "compiling_s": sum(compiled)}


def timed(folder: Path, options: argparse.Namespace, backend: str) -> dict[str, float]:
    """Run one side in a new process and a new directory."""
    shutil.rmtree(folder / backend, ignore_errors=True)
    shutil.copytree(folder / "warm" / "warmup", folder / backend / "warmup")
    command = [sys.executable, __file__, "--side", backend, "--folder", str(folder)]
    command += ["--epochs", str(options.epochs), "--layout", str(options.layout)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layout", type=int, default=0, help="members at once; 0: as a sweep chooses")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(options.folder, options.epochs, options.side, options.layout)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare_synthetic(folder / "data", World(rows=options.rows, largest=500))
        sweep = sweep_over(folder / "data", options.epochs)
        first = resolve(sweep, folder / "warm", data.content_hash)[0]
        assert first.warmup_config is not None
        train(first.warmup_config, folder / "warm" / "warmup" / first.warmup, data=data, split="valid")
        found: dict[str, list[dict[str, float]]] = {"sequential": [], "compiled": []}
        for _ in range(options.rounds):
            for backend, results in found.items():
                results.append(timed(folder, options, backend))
    print("| 12 members | seconds | programs compiled | seconds compiling |\n|---|---|---|---|")
    for backend, results in found.items():
        middle = {key: median(r[key] for r in results) for key in results[0]}
        programs, compiling = middle["compilations"], middle["compiling_s"]
        print(f"| {backend} | {middle['seconds']:.1f} | {programs:.0f} | {compiling:.1f} |")
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*found.values(), strict=True)]
    print(f"\nratio of wall times, median of {options.rounds} rounds: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
