"""Whether two runs from one seed are the same, bit for bit, on this device.

    .venv/bin/python benchmarks/repeat.py
    XLA_FLAGS=--xla_gpu_deterministic_ops=true .venv/bin/python benchmarks/repeat.py      # on a GPU

Each program trains DeepFwFM of the paper's Criteo shape twice for some steps; parameters, moments and masks
are compared. A GPU adds the gradients of a row's readers in the order in which they arrive, unless told.
"""

from __future__ import annotations

import jax
import numpy as np
from train_step import OURS, batches_of, config_of, our_training, parser_of, schema_of

PROGRAMS = ("ours", "ours, pruned: D90-R90-F40", "ours, lazy_adam", "ours, rowwise_adagrad")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    schema = schema_of(options.table_rows, 13, 26)
    batches = batches_of(schema, options.batch)
    print("| program | leaves that differ | of |\n|---|---|---|")
    for name in PROGRAMS:
        init, step = our_training(config_of(options, OURS[name]), schema, options.batch)
        ends = []
        for _ in range(2):
            state = init()
            for number in range(options.steps):
                state, _ = step(state, batches[number % len(batches)], number + 1)
            ends.append(jax.tree.leaves(jax.device_get(state)))
        differ = sum(not np.array_equal(a, b, equal_nan=True) for a, b in zip(*ends, strict=True))
        print(f"| {name} | {differ} | {len(ends[0])} |", flush=True)


if __name__ == "__main__":
    main()
