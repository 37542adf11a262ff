"""Resident memory, Python objects and seconds by checkpoints saved.

    python benchmarks/saves.py [--saves 2000] [--devices 1]

The state is a small one: Adam's of a table, a layer and a bias, and their masks. With several devices, of one
CPU, the table is split over them. One line a tenth of the saves; the first ones hold what is made once.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saves", type=int, default=2000)
    parser.add_argument("--devices", type=int, default=1)
    arguments = parser.parse_args()
    devices = f"--xla_force_host_platform_device_count={arguments.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {devices}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"

    import jax
    import jax.numpy as jnp
    import optax

    from deeplight_jax.mesh import Placement
    from deeplight_jax.serving.bench import resident_bytes
    from deeplight_jax.sparsity.components import Component
    from deeplight_jax.sparsity.transform import project_onto_masks
    from deeplight_jax.training import checkpoint
    from deeplight_jax.training.state import TrainState

    split = arguments.devices > 1
    mesh = jax.make_mesh((1, arguments.devices), ("data", "table")) if split else None
    place = Placement(mesh, rows=1001)
    params = {"table": jnp.ones((1001, 8)), "layer": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
    labels = {"table": "embedding", "layer": "dnn", "bias": ""}
    project = project_onto_masks(labels, (Component("dnn", 0.5), Component("embedding", 0.5)), warmup_steps=0)
    optimizer = optax.chain(optax.adam(1e-3), project)
    state = TrainState(jnp.int32(1), jnp.uint32(0), params, optimizer.init(params))
    placed, true = place.put(state), (state.masks, params) if split else None
    about = {"rows_behind": place.rows_behind} if split else {}
    tenth = max(arguments.saves // 10, 1)
    with tempfile.TemporaryDirectory() as folder:
        before, began = (resident_bytes() or 0, sys.getallocatedblocks()), time.monotonic()
        for saves in range(1, 10 * tenth + 1):
            checkpoint.save(Path(folder), placed, about, labels, true)
            if saves % tenth == 0:
                gc.collect()
                now = (resident_bytes() or 0, sys.getallocatedblocks())
                grown, objects = ((a - b) / tenth for a, b in zip(now, before, strict=True))
                pace = 1e3 * (time.monotonic() - began) / tenth
                print(
                    f"{saves:6} saves: a save {grown / 1e3:6.1f} kB, {objects:6.1f} objects, {pace:4.0f} ms"
                )
                before, began = now, time.monotonic()


if __name__ == "__main__":
    main()
