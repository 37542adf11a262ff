"""Where a training step's time goes on a GPU: each kernel's share, of DeepFwFM at the paper's Criteo shape.

    XLA_PYTHON_CLIENT_PREALLOCATE=false .venv/bin/python benchmarks/kernels.py [--only WORD...]

Steps are timed without the profiler, then profiled; "busy" is the sum of all kernels. For what is left of a
step's time the device waits for the host.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import jax
from train_rivals import Program
from train_step import OURS, batches_of, config_of, our_program, parser_of, schema_of, seconds

from deeplight_jax.data.schema import Batch


def kernels(program: Program, batches: list[Batch], steps: int) -> Counter[str]:
    """Nanoseconds by kernel, of all steps."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds(program, batches, steps)
        trace = next(Path(folder).rglob("*.xplane.pb"))
        planes = jax.profiler.ProfileData.from_file(str(trace)).planes
        found: Counter[str] = Counter()
        for line in (line for plane in planes if "GPU" in plane.name for line in plane.lines):
            for event in line.events if "Compute" in line.name else ():
                found[event.name] += event.duration_ns
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=50, help="a multiple of the interval between events")
    parser.add_argument("--only", nargs="+", default=["pruned", "lazy"], help="programs that hold a word")
    options = parser.parse_args()
    if jax.default_backend() == "cpu":
        parser.error("this measures kernels of a GPU; JAX has none here")
    schema = schema_of(options.table_rows, 13, 26)
    batches = batches_of(schema, options.batch)
    for name in (n for n in OURS if any(word in n for word in options.only)):
        program = our_program(config_of(options, OURS[name]), schema, options.batch)
        seconds(program, batches, options.steps)  # compiles
        took = seconds(program, batches, options.steps)
        found = kernels(program, batches, options.steps)
        busy = sum(found.values()) / options.steps / 1e3
        print(f"\n{name}: {1e3 * took:.3g} ms a step, kernels busy {busy:.0f} us\n")
        print("| us a step | kernel |\n|---|---|")
        for kernel, nanoseconds in found.most_common(12):
            print(f"| {nanoseconds / options.steps / 1e3:.1f} | {kernel[:80]} |")


if __name__ == "__main__":
    main()
