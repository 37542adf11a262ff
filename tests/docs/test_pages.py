"""What the documentation's pages tell a reader to type runs, in their order, and does what the page says.

A block is taken where the line before it says so: `<!-- run -->` before Python, which shares names over the
page, or before `sh`, whose `deeplight` lines are run; `<!-- file: NAME -->` writes the block to a file;
`<!-- shown -->` is what was printed since the last such block, but for its numbers.
"""

import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

import deeplight_jax as dl
from deeplight_jax.cli import main
from deeplight_jax.config import flatten
from deeplight_jax.data.recipes import RECIPES
from deeplight_jax.keys import DEFAULTS
from deeplight_jax.models import MODELS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^<!-- (run|shown|file: [\w./-]+) -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SLOW = pytest.mark.skipif(
    os.environ.get("DEEPLIGHT_PAGES") != "all",
    reason="its commands have tests of their own; `make pages` runs it",
)
ROOMS = runpy.run_path(str(DOCS / "rooms.py"))
CODE_NAME = re.compile(rf"`((?:{'|'.join((*ROOMS['ROOMS'], *ROOMS['GROUND']))})(?:\.\w+)+)`")


def run_page(path: Path) -> dict:
    """The page's marked blocks, run in order; returns the names that its Python defines."""
    text, names, printed = path.read_text(encoding="utf-8"), {"__name__": path.stem}, io.StringIO()
    for found in BLOCK.finditer(text):
        mark, language, block = found.groups()
        if mark == "shown":
            check_shown(block, printed.getvalue())
            printed = io.StringIO()
        elif mark != "run":
            Path(mark.removeprefix("file: ")).write_text(block, encoding="utf-8")
        else:
            with contextlib.redirect_stdout(printed):
                if language == "python":
                    lines_before = "\n" * (text[: found.start(3)].count("\n"))  # errors name the page's lines
                    exec(compile(lines_before + block, str(path), "exec"), names)
                else:
                    run_commands(block)
    print(printed.getvalue())
    return names


def check_shown(block: str, printed: str) -> None:
    """Every line that a page shows was printed, in this order, whatever the numbers in it."""
    lines = iter(without_numbers(printed))
    for line in without_numbers(block):
        assert line in lines, f"the page shows this, which was not printed there: {line}\n{printed}"


def without_numbers(text: str) -> list[str]:
    """Lines with numbers as # and without the frames of tables."""
    bare = (re.sub(r"[^\w.,%:/@()+±#-]+", " ", re.sub(r"\d[\d.,]*", "#", line)) for line in text.splitlines())
    return [line.strip() for line in bare if line.strip()]


def run_commands(block: str) -> None:
    """The `deeplight` commands of a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert not words or words[0] == "deeplight", f"only deeplight commands are run, not: {line}"
        assert not words or main(words[1:]) == 0, line


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of the page's own, and registries that get back what they held."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(MODELS), mock.patch.dict(RECIPES):
        yield


def test_a_model_from_outside_the_package_is_pruned(capsys):
    page = run_page(DOCS / "prune-your-own-model.md")
    report = page["dl"].sparsity_report(page["projected"], page["labels"], {})["components"]
    assert report["dnn"]["rate"] == pytest.approx(0.9, abs=0.01)
    assert report["embedding"]["rate"] == pytest.approx(0.5, abs=0.01)
    assert report["dnn"]["total"] == 2 * 8 * 16
    assert "embedding" in capsys.readouterr().out
    for kernel in ("user_kernel", "item_kernel"):  # layer by layer, both towers alike
        assert np.count_nonzero(page["projected"][kernel]) == pytest.approx(12.8, abs=1)
    logits = page["model"].apply({"params": page["projected"]}, page["user"], page["item"])
    before = page["model"].init(jax.random.key(0), page["user"], page["item"])["params"]
    first = page["model"].apply({"params": before}, page["user"], page["item"])
    label = np.asarray(page["label"])

    def loss(z):
        return float(np.mean(np.logaddexp(0, z) - z * label))

    assert loss(logits) < loss(first) / 2  # it learned while it was pruned


def test_the_ways_to_extend_the_house_work():
    page = run_page(DOCS / "architecture.md")
    assert page["data"].schema.num_fields == 3
    assert sum(page["data"].split(name).rows for name in ("train", "valid", "test")) == 500
    kept = {code: np.count_nonzero(mask) for code, mask in page["gates"].items()}
    assert kept == {"gate": 3}
    assert page["rates"] == pytest.approx([0, 1 / 3, 1 / 2, 1 / 2], abs=1e-6)
    dense, pruned = page["results"]
    assert dense["model"] == pruned["model"] == "meannet"
    assert pruned["components"]["dnn"]["rate"] == pytest.approx(0.5, abs=0.01)
    assert min(dense["roc_auc"], pruned["roc_auc"]) > 0.7  # the rows' rule is learned


def test_the_tutorial_does_what_it_says():
    page = run_page(DOCS / "tutorial.md")
    assert page["world"].schema.num_fields == 39
    assert len(page["kept"] & page["planted"]) >= 18
    scores = page["engine"].score(page["batch"].ids, page["batch"].values)
    assert len(scores) == page["batch"].rows
    assert Path("report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    "name", ["data", *(pytest.param(n, marks=SLOW) for n in ("serve", "sweep", "keep-running", "seeds"))]
)
def test_a_how_to_page_works(name):
    page = DOCS / "how-to" / f"{name}.md"
    run_page(page)  # in which a command that fails, or prints other than what is shown, fails
    assert "run" in {found[1] for found in BLOCK.finditer(page.read_text(encoding="utf-8"))}


def test_another_criterion_keeps_what_the_page_says():
    page = run_page(DOCS / "how-to" / "criteria.md")
    assert np.flatnonzero(page["state"][1].masks["w"][:, 0]).tolist() == [0, 7]


@SLOW
def test_masks_are_compared_and_trained_from_as_the_page_says():
    page = run_page(DOCS / "how-to" / "masks.md")
    merged, _ = dl.masks.read_masks("both.safetensors")
    kept = sum(leaf.kept for leaf in dl.masks.summarize(merged).leaves)
    trained = [component["nonzero"] for component in page["result"]["components"].values()]
    assert 0 < sum(trained) <= kept  # fixed masks: nothing outside them came back


def test_names_in_quotes_of_code_exist():
    """A name that begins with a room is in the package, or a config key: the pages do not outlive it."""
    named = {(page.name, name) for page in PAGES for name in CODE_NAME.findall(page.read_text("utf-8"))}
    assert len(named) > 20
    for page, name in sorted(named):
        assert resolves(name), f"{page}: there is no {name}"


def resolves(name: str) -> bool:
    if name in flatten(DEFAULTS):
        return True
    parts, found = name.split("."), None
    for i in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["deeplight_jax", *parts[:i]]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            found = getattr(found, part, None)
        break
    return found is not None


def test_the_picture_of_the_rooms_is_of_these_sources():
    assert (DOCS / "rooms.svg").read_text("utf-8") == ROOMS["draw"](), "draw it again: python docs/rooms.py"
