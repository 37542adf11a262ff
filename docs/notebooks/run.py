"""Runs the notebooks in this folder, each in a kernel and an empty folder of its own.

    python docs/notebooks/run.py [--out DIR] [NAME ...]

A notebook that raises ends it with what was raised; DIR gets those that ran, with their outputs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")  # or Jupyter warns that it will
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
_TIMEOUT_S = 300  # of one cell


def execute(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs; raises `nbclient.exceptions.CellExecutionError` where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        client = NotebookClient(
            notebook, timeout=_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": place}}
        )
        return client.execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks, without .ipynb (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write them with their outputs")
    arguments = parser.parse_args()
    for path in [HERE / f"{name}.ipynb" for name in arguments.names] or sorted(HERE.glob("*.ipynb")):
        start = time.monotonic()
        done = execute(path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s")
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            nbformat.write(done, arguments.out / path.name)


if __name__ == "__main__":
    main()
