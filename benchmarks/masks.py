"""Time of packing, comparing and reading masks, and of `deeplight masks diff`: DeepFwFM, Criteo's schema.

taskset -c 0 .venv/bin/python benchmarks/masks.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

import deeplight_jax as dl
from deeplight_jax.config import to_json
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.sparsity.algebra import leaves_by_path
from deeplight_jax.training.masks_alone import PRUNABLE

SHAPES = {
    "embedding": {"table": (1_326_055, 10)},
    "fwfm": {"r": (741,)},
    "deep": {
        f"hidden_{i}": {"kernel": shape} for i, shape in enumerate([(390, 400), (400, 400), (400, 400)])
    },
}


def random_masks(seed: int) -> Any:
    """About D90-R90-F40, at random."""
    rng = np.random.default_rng(seed)
    kept = {"embedding": {"table": 0.6}, "fwfm": {"r": 0.1}}
    kept |= {"deep": {layer: {"kernel": 0.1} for layer in SHAPES["deep"]}}
    return jax.tree.map(lambda share, shape: rng.random(shape, np.float32) < share, kept, SHAPES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    a, b = random_masks(0), random_masks(1)
    packed = dl.masks.pack(a)
    on_device, jitted = jax.device_put(a), jax.jit(dl.masks.pack)
    size = sum(leaf.size for leaf in jax.tree.leaves(a))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.safetensors"
        tasks: dict[str, Callable[[], Any]] = {
            "pack, numpy": lambda: dl.masks.pack(a),
            "pack, jitted": lambda: jax.block_until_ready(jitted(on_device)),
            "unpack, numpy": lambda: dl.masks.unpack(packed),
            "diff": lambda: dl.masks.diff(a, b),
            "union": lambda: dl.masks.union(a, b),
            "write_masks": lambda: dl.masks.write_masks(file, a),
            "read_masks": lambda: dl.masks.read_masks(file),
        }
        print(f"{size:,} weights, median of {options.repeats} runs after one that is not counted")
        for name, task in tasks.items():
            print(f"{name:14s} {1e3 * median(seconds(task, options.repeats)):8.1f} ms", flush=True)
        print(f"{'file':14s} {file.stat().st_size:8,} bytes")
        runs = [fake_run(Path(folder) / name, masks) for name, masks in (("a", a), ("b", b))]
        command = [sys.executable, "-m", "deeplight_jax", "masks", "diff", *runs, "--json"]
        whole = seconds(lambda: subprocess.run(command, check=True, capture_output=True), options.repeats)
        print(f"{'masks diff':14s} {1e3 * median(whole):8.1f} ms, the whole command with the start of Python")


def fake_run(workdir: Path, masks: Any) -> str:
    """A run directory that holds what `masks diff` reads, with 39 fields of the paper's Criteo."""
    sizes = [1] * 13 + [51_002] * 25 + [1_326_055 - 13 - 25 * 51_002]
    kinds = ["numeric"] * 13 + ["categorical"] * 26
    fields = [Field(f"f{i}", k, n) for i, (k, n) in enumerate(zip(kinds, sizes, strict=True))]  # pyright: ignore
    about = {
        "content_hash": "",
        "rows": 41_256_556,
        "schema": Schema(tuple(fields)).to_json(),
        "vocabulary": {},
    }
    step = workdir / "checkpoints" / "1"
    step.mkdir(parents=True)
    (workdir / "config.json").write_text(to_json(dl.default_config()))
    (workdir / "data.json").write_text(json.dumps(about))
    codes = {"embedding": "embedding", "fwfm": "field", "deep": "dnn"}
    prunable = {p: [codes[p.split("/")[0]], list(k.shape)] for p, k in leaves_by_path(masks).items()}
    dl.masks.write_masks(step / "masks.safetensors", masks, {PRUNABLE: prunable})
    digest = hashlib.sha256((step / "masks.safetensors").read_bytes()).hexdigest()
    (step.parent / "1.sha256.json").write_text(json.dumps({"masks.safetensors": digest}))
    return str(workdir)


def seconds(task: Callable[[], Any], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return found[1:]


if __name__ == "__main__":
    main()
