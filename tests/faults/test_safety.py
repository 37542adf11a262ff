"""Files that are read are data: none is unpickled or run, but for config files, which are code by design."""

import ast
from pathlib import Path

from comparing import assert_same_run

from deeplight_jax.training.loop import train

ROOT = Path(__file__).parents[2]
SOURCES = [p for folder in ("deeplight_jax", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
TRUSTED = {("deeplight_jax/config.py", "exec"), ("deeplight_jax/config.py", "compile")}


def calls(tree):
    """(name called, keyword arguments given as constants) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            yield ast.unparse(node.func), keywords


def test_nothing_that_is_read_is_unpickled_or_run():
    assert len(SOURCES) > 90
    found, loads = set(), 0
    for path in SOURCES:
        name, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {i.split(".")[0] for i in imported} & MODULES, f"{name} imports {imported}"
        for called, keywords in calls(tree):
            if called in CALLS:
                found.add((name, called))
            if called in ("np.load", "numpy.load"):
                loads += 1
                assert keywords.get("allow_pickle", False) is False, f"{name}: np.load(allow_pickle=True)"
            assert called not in ("torch.load", "os.system"), name
            assert not keywords.get("shell", False), f"{name}: shell=True"
    assert found == TRUSTED
    assert loads >= 1


def test_config_files_are_documented_as_code():
    assert "runs as code" in (ROOT / "deeplight_jax" / "config.py").read_text()
    assert "code" in (ROOT / "README.md").read_text().split("## Safety")[1].split("##")[0]


def test_a_seed_gives_the_same_bits_again(config, world, tmp_path):
    for name in ("one", "two"):
        train(config, tmp_path / name, data=world)
    assert_same_run(tmp_path / "two", tmp_path / "one", config, world)
