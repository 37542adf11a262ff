"""Writes the fuzzers' first inputs: a small artifact of every model that has a compact form.

PYTHONPATH=. python tests/fuzz/seeds.py DIRECTORY
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from small_artifacts import write_seeds

if __name__ == "__main__":
    written = write_seeds(Path(sys.argv[1]))
    print(f"{len(written)} files, {sum(path.stat().st_size for path in written)} bytes")
