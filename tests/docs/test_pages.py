"""The Python of the documentation's pages runs, and does what the page says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"


def run_page(name: str) -> dict:
    """Names that a page's Python blocks define, run in order as one module."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict = {"__name__": name}
    exec(compile("\n".join(blocks), name, "exec"), names)
    return names


def test_a_model_from_outside_the_package_is_pruned(capsys):
    page = run_page("prune-your-own-model.md")
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
