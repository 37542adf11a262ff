"""The notebooks run from top to bottom in an empty folder, and are kept without outputs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
MISSING = [name for name in ("nbclient", "ipykernel", "matplotlib") if importlib.util.find_spec(name) is None]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["flax_model", "masks"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_kept(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    kept = [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert not kept, f"clear the outputs of {path.name} before you commit it: {kept}"


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; make install brings them")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    command = [sys.executable, path.parent / "run.py", path.stem, "--out", tmp_path]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    cells = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", ()) for output in outputs) >= 2
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
