"""What a training step sends between devices: the collectives of its compiled program, with their bytes.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python benchmarks/collectives.py --data 4 --table 2

DeepFwFM at the paper's Criteo shape, pruned; the program is compiled for fake CPU devices and never run, so
nothing here is a time. Bytes are of the array that a collective makes on each device.
"""

from __future__ import annotations

import argparse
import re

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax import default_config
from deeplight_jax.config import override, set_code
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.mesh import place
from deeplight_jax.models import abstract_params, build_model
from deeplight_jax.training.job import PlacedStep, placed_step
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import abstract_state

_MADE = re.compile(
    r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1}
ROWS, NUMERIC, CATEGORICAL = 1_326_055, 13, 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=int, default=4)
    parser.add_argument("--table", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    options = parser.parse_args()
    for when, kind, size, what in collectives(program(options.data, options.table, options.batch)):
        print(f"{when:10} {kind:20} {size:>12,} bytes  {what}")


def program(data: int, table: int, batch_size: int) -> str:
    """The compiled step's text."""
    config = default_config().copy_and_resolve_references()
    set_code(config, "D90-R90-F40")
    config = override(config, {"data.batch_size": batch_size})
    schema = criteo()
    model = build_model(config, schema)
    _, labels = abstract_params(model, schema)
    optimizer = build_optimizer(config, labels, make_plan(config, 37_000_000))
    where = place(data, table, schema.num_rows, batch_size)
    step = placed_step(where, model, schema, optimizer, config)
    assert isinstance(step, PlacedStep), "one device sends nothing"
    column = jax.ShapeDtypeStruct((batch_size,), jnp.float32)
    ids = jax.ShapeDtypeStruct((batch_size, CATEGORICAL), jnp.int32)
    values = jax.ShapeDtypeStruct((batch_size, NUMERIC), jnp.float32)
    state = where.padded(abstract_state(model, schema, optimizer))
    return step.program.lower(state, Batch(ids, values, column, column)).compile().as_text()


def criteo() -> Schema:
    """As many rows as the paper's."""
    each, more = divmod(ROWS - NUMERIC, CATEGORICAL)
    numeric = [Field(f"I{i}", "numeric", 1) for i in range(NUMERIC)]
    categorical = [Field(f"C{i}", "categorical", each + (i < more)) for i in range(CATEGORICAL)]
    return Schema((*numeric, *categorical))


def collectives(text: str) -> list[tuple[str, str, int, str]]:
    """When, kind, bytes made on a device and the operation's name of each, largest first."""
    found = []
    for line in text.splitlines():
        if match := _MADE.search(line):
            name = re.search(r'op_name="([^"]*)"', line)
            what = name[1] if name else ""
            when = "an event" if "while/body" in what else "a step"
            found.append((when, match[2], _bytes(match[1]), "/".join(what.split("/")[-3:])))
    return sorted(found, key=lambda one: (one[0] != "a step", -one[2]))


def _bytes(made: str) -> int:
    shapes = re.findall(r"(\w+)\[([\d,]*)\]", made)
    return sum(_BYTES[kind] * int(np.prod([int(n) for n in s.split(",") if n])) for kind, s in shapes)


if __name__ == "__main__":
    main()
