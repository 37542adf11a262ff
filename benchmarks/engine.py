"""`deeplight bench` on the paper's D99-R95-F40 of Criteo's shape: trained on a planted world, or random.

    .venv/bin/python benchmarks/engine.py --train DIR     # a world of 3M rows, 1,172 steps: some 15 minutes
    .venv/bin/python benchmarks/engine.py --random DIR    # heavy-tailed weights: seconds
    .venv/bin/python benchmarks/engine.py --train DIR --world-rows 60000 --table-rows 20000  # a try of it all

Either makes DIR/model.safetensors once, of 1,326,055 table rows, 39 fields, k = 10 and 400x400x400; `--train`
makes DIR/data and DIR/run for it. Other flags go to `deeplight bench`, which runs in a process of its own:

    taskset -c 0 .venv/bin/python benchmarks/engine.py --train DIR --sweep-rate --flush --json > cold.json
    taskset -c 0 .venv/bin/python benchmarks/engine.py --train DIR --rows warm --against onnxruntime,scipy
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from deeplight_jax.config import Config, default_config, override, parse_code
from deeplight_jax.data.schema import Schema
from deeplight_jax.data.synthetic import World, prepare_synthetic, world_schema
from deeplight_jax.reporting.progress import progress_bars
from deeplight_jax.serving.artifact import Artifact, save
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.rates import pruned

CODE = "D99-R95-F40"


def trained(folder: Path, world: World) -> None:
    """Make the world, train and prune on it, export; what is there is kept, an interrupted run goes on."""
    from deeplight_jax.serving.export import export
    from deeplight_jax.training.loop import train

    if not (folder / "data").exists():
        prepare_synthetic(folder / "data", world)
    with progress_bars(Console(stderr=True)) as advance:
        train(config(folder / "data"), folder / "run", progress=advance)
        export(folder / "run", folder / "model.safetensors", progress=advance)


def config(data: Path) -> Config:
    """The paper's model with a short schedule: one epoch, a quarter of it warm-up, the targets reached."""
    settings = {
        "data.dir": data,
        "model.dropout": 0.0,
        "optim.learning_rate": 3e-3,
        "sparsity.warmup_epochs": 0.25,
        "sparsity.short_schedule": "rescale",
        "sparsity.reach": 0.9999,  # or 2 % of the net would be left where 1 % is meant
        "train.epochs": 1,
        "train.checkpoint_steps": 200,
    }
    rates = {f"sparsity.{component}": rate for component, rate in parse_code(CODE).items()}
    return override(default_config(), {**settings, **rates})


def random_params(schema: Schema, tail: float) -> dict[str, Any]:
    """DeepFwFM's parameters, Student-t with `tail` degrees of freedom, pruned to `CODE`."""
    rng, rates = np.random.default_rng(0), parse_code(CODE)
    model = default_config().model
    n, k, hidden = schema.num_fields, model.embedding_dim, model.hidden

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (rng.standard_t(tail, shape) * scale).astype(np.float32)

    deep: dict[str, Any] = {"output": {"kernel": draw(0.05, hidden[-1], 1)}}
    for i, (a, b) in enumerate(zip((n * k, *hidden), hidden, strict=False)):
        kernel = draw(0.05, a, b) * np.abs(draw(1.0, 1, b))  # whole units are strong or weak, too
        deep[f"hidden_{i}"] = {"kernel": pruned(kernel, rates["dnn"]), "bias": draw(0.01, b)}
    fwfm = {"bias": np.float32(-1), "field_weight": np.ones(n, np.float32), "v": draw(0.1, n, k)}
    fwfm["r"] = pruned(draw(0.1, n * (n - 1) // 2), rates["field"])
    table = pruned(draw(0.1, schema.num_rows, k), rates["embedding"])
    return {"embedding": {"table": table}, "fwfm": fwfm, "deep": deep}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--train", type=Path, metavar="DIR")
    kind.add_argument("--random", type=Path, metavar="DIR")
    parser.add_argument("--world-rows", type=int, default=3_000_000)
    parser.add_argument("--table-rows", type=int, default=1_326_055)
    parser.add_argument(
        "--tail", type=float, default=3.0, help="random: degrees of freedom; 100: all but normal"
    )
    options, rest = parser.parse_known_args()
    folder = options.train or options.random
    folder.mkdir(parents=True, exist_ok=True)
    world = World(rows=options.world_rows, table_rows=options.table_rows, strength=0.5)
    path = folder / "model.safetensors"
    if options.train and not path.exists():
        trained(folder, world)
    elif not path.exists():
        model, schema = default_config().model, world_schema(world)
        structure = compact(model, schema, random_params(schema, options.tail))
        save(path, Artifact(structure, {"model": model.to_dict()}, {}))
    own = ["--run", str(folder / "run")] if options.train else []
    command = [sys.executable, "-m", "deeplight_jax", "bench", "--artifact", str(path), *own, *rest]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
