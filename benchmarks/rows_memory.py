"""Memory of a training process by rows: its own (anonymous) against pages of the mapped files.

    taskset -c 0,1 .venv/bin/python benchmarks/rows_memory.py --rows 250000 2500000

Each size trains logistic regression for an epoch in a process of its own; its memory is read every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import json, sys, threading
from pathlib import Path
from deeplight_jax.config import default_config, override
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.training.loop import train
place, rows = Path(sys.argv[1]), int(sys.argv[2])
if rows:
    prepare_synthetic(place / "data", World(rows=rows))
    sys.exit()
KEYS, peak, over = ("RssAnon", "RssFile"), {}, threading.Event()
def look(now):
    text = Path("/proc/self/status").read_text()
    status = dict(line.split(":", 1) for line in text.splitlines())
    for key in KEYS:
        now[key] = max(now.get(key, 0), int(status[key].split()[0]) / 1024)
def watch():
    while not over.wait(0.02):
        look(peak)
settings = {"model.name": "lr", "data.dir": str(place / "data"), "data.batch_size": 8192, "train.epochs": 1}
settings |= {"data.verify": False, "sparsity.warmup_epochs": 1.0}
watcher = threading.Thread(target=watch)
watcher.start()
train(override(default_config(), settings), place / "run", split="valid")
over.set()
watcher.join()
print(json.dumps(peak))
"""


def measure(rows: int, place: Path) -> dict[str, float]:
    """Peaks in MB of a process that trains on `rows` made rows, a tenth of them for validation."""
    child = [sys.executable, "-c", CHILD, str(place)]
    subprocess.run([*child, str(rows)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([*child, "0"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 2_500_000])
    parser.add_argument("--dir", type=Path, help="where to put the files (default: a temporary directory)")
    args = parser.parse_args()
    print(f"{'rows':>10} {'arrays MB':>10} {'own MB':>8} {'mapped MB':>10}")
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.dir) as place:
            peak = measure(rows, Path(place))
            arrays = sum(f.stat().st_size for f in Path(place, "data").glob("*.npy")) / 2**20
        print(f"{rows:>10,} {arrays:>10,.0f} {peak['RssAnon']:>8,.0f} {peak['RssFile']:>10,.0f}", flush=True)


if __name__ == "__main__":
    main()
