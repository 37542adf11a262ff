"""The house keeps its shape: who may import whom, and how long a file or function may grow."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deeplight_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
# each room may import only what stands to its right
ORDER = [
    "__main__",
    "cli",
    "cli_bench",
    "cli_masks",
    "cli_report",
    "cli_serving",
    "cli_sweep",
    "cli_train",
    "quickstart",
    "reporting",
    "sweeping",
    "serving",
    "training",
    "evaluation",
    "models",
    "layers",
    "sparsity",
    "mesh",
    "data",
    "config",
    "keys",
    "files",
    "errors",
]
SCHEMA_ONLY = {"layers", "models", "sparsity"}  # of data, these know the schema alone


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Dotted names that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own(path: Path) -> set[str]:
    return {n.split(".", 1)[1] for n in imports(path) if n.startswith("deeplight_jax.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_right(path: Path):
    here = room(path)
    if here == "__init__":
        return  # the public API names every room, lazily
    assert here in ORDER, f"{here} is a new room: give it a place in the order"
    for name in own(path):
        there = name.split(".")[0]
        if there == "__version__":
            continue  # the package's own
        assert ORDER.index(there) >= ORDER.index(here), f"{here} must not import {there}"
        if here in SCHEMA_ONLY and there == "data":
            assert name == "data" or name.startswith("data.schema"), (
                f"{here} knows data.schema only, not {name}"
            )


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in ("data", "config", "keys", "files", "errors")], ids=str
)
def test_data_and_config_never_import_jax(path: Path):
    assert not {n.split(".")[0] for n in imports(path)} & {"jax", "flax", "optax", "orbax"}


def test_sparsity_knows_no_flax():
    for path in (PACKAGE / "sparsity").glob("*.py"):
        assert "flax" not in {n.split(".")[0] for n in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_files_and_functions_stay_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


def test_serving_scores_without_jax():
    import subprocess
    import sys

    code = "import sys, deeplight_jax as dl; dl.serving.load; import deeplight_jax.serving.raw; "
    code += "assert not {'jax', 'flax', 'ml_collections', 'orbax'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_import_is_light():
    """`import deeplight_jax` must not pay for JAX; names load it when used."""
    import subprocess
    import sys

    code = "import sys, deeplight_jax as dl; assert 'jax' not in sys.modules; assert dl.damped(0.9, 10) > 0"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_resolves():
    import deeplight_jax as dl

    assert all(getattr(dl, name) is not None for name in dl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = dl.trian
