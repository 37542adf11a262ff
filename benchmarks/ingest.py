"""Time and peak memory of `prepare` on made rows of Criteo's shape, and what they come to at 45 million rows.

    taskset -c 0,1 .venv/bin/python benchmarks/ingest.py --rows 500000 1000000 2000000

Each size is prepared by a process of its own. Categorical values follow a power law over the number of
distinct values that each column of the full Criteo log has, so that the counters grow as they do there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FULL_ROWS = 45_840_617
DISTINCT = (
    *(1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194, 27, 14_992),
    *(5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572),
)
"""Distinct values of C1 to C26 in the 45.8 million rows."""

CHILD = """
import json, resource, sys, time
from pathlib import Path
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.recipes import CRITEO
raw, out, threads, memory = sys.argv[1:]
start = time.perf_counter()
made = prepare(CRITEO, [Path(raw)], Path(out), threads=int(threads) or None, memory_limit=memory)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "rows": made.manifest["accepted"], "wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": int(status["VmHWM"].split()[0]) / 1024, "table_rows": made.schema.num_rows,
    "content_hash": made.content_hash,
}))
"""


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """Write `rows` lines of Criteo's layout, about 250 bytes each."""
    draw = np.random.default_rng(seed)
    numbers = np.array([str(i).encode() for i in range(65_536)] + [b"-1", b""], object)
    with path.open("wb") as file:
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            columns = [draw.choice([b"0", b"1"], count, p=[0.75, 0.25]).tolist()]
            for _ in range(13):
                number = (65_536 ** draw.random(count) - 1).astype(np.int64)
                number[draw.random(count) < 0.2] = len(numbers) - 1  # missing
                columns.append(numbers[number].tolist())
            columns += [_hexadecimal(draw, distinct, count) for distinct in DISTINCT]
            file.writelines(b"\t".join(row) + b"\n" for row in zip(*columns, strict=True))


def _hexadecimal(draw: np.random.Generator, distinct: int, count: int) -> list[bytes]:
    rank = (distinct ** draw.random(count)).astype(np.uint64)
    code = (rank * np.uint64(2_654_435_761)) & np.uint64(0xFFFFFFFF)
    nibbles = (code[:, None] >> np.arange(28, -1, -4).astype(np.uint64)) & np.uint64(15)
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles.astype(np.int64)]
    text[draw.random(count) < 0.03] = 0  # missing
    return text.view("S8").reshape(-1).tolist()


def measure(rows: int, threads: int, memory: str, place: Path) -> dict[str, float]:
    """Make rows, prepare them in a process of its own, and return what that took."""
    raw, out = place / f"{rows}.tsv", place / f"{rows}"
    subprocess.run([sys.executable, __file__, "--write", str(raw), "--rows", str(rows)], check=True)
    command = [sys.executable, "-c", CHILD, str(raw), str(out), str(threads), memory]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {**json.loads(done.stdout), "raw_mb": raw.stat().st_size / 2**20}
    raw.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 2_000_000])
    parser.add_argument("--threads", type=int, default=0, help="0: the cores this process may use")
    parser.add_argument("--memory-limit", default="4GB")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: a temporary directory)")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_rows(args.write, args.rows[0])
        return
    print(f"{'rows':>10} {'raw MB':>8} {'wall s':>8} {'CPU s':>8} {'rows/s':>9} {'peak MB':>8}")
    with tempfile.TemporaryDirectory(dir=args.dir) as place:
        found = [measure(n, args.threads, args.memory_limit, Path(place)) for n in sorted(args.rows)]
    for f in found:
        speed = f["rows"] / f["wall_s"]
        print(
            f"{f['rows']:>10,} {f['raw_mb']:>8,.0f} {f['wall_s']:>8.1f} {f['cpu_s']:>8.1f} "
            f"{speed:>9,.0f} {f['peak_mb']:>8,.0f}"
        )
    if len(found) > 1:
        a, b = found[0], found[-1]
        far = (FULL_ROWS - b["rows"]) / (b["rows"] - a["rows"])
        wall, peak = (b[k] + far * (b[k] - a[k]) for k in ("wall_s", "peak_mb"))
        print(f"a straight line through the ends at {FULL_ROWS:,} rows: {wall:,.0f} s, {peak / 1024:.1f} GB")


if __name__ == "__main__":
    main()
