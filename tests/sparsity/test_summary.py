"""Masks shown by rich and by treescope."""

import io

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import treescope
from rich.console import Console

from deeplight_jax.errors import MaskError
from deeplight_jax.sparsity import masks as dl_masks

TREE = {"deep": {"kernel": np.arange(12).reshape(3, 4) % 4 == 0, "bias": optax.MaskedNode()},
        "r": jnp.arange(6) > 0}  # fmt: skip


def test_by_path_shape_kept_and_rate():
    found = dl_masks.summarize(TREE)
    assert [(x.path, x.shape, x.kept) for x in found.leaves] == [("deep/kernel", (3, 4), 3), ("r", (6,), 5)]
    assert found.leaves[0].rate == 0.75
    out = io.StringIO()
    Console(file=out, width=80).print(found)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert any({"deep/kernel", "75.0%"} <= set(line) for line in lines)
    with pytest.raises(MaskError, match="r holds float32"):
        dl_masks.summarize({"r": np.ones(3, np.float32)})


@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")  # treescope's
def test_treescope_shows_trees_and_summaries():
    text = treescope.render_to_text(TREE)
    assert "bool" in text
    assert "MaskedNode" in text
    shown = treescope.render_to_text(dl_masks.summarize(TREE))
    assert "LeafSummary" in shown
    assert "deep/kernel" in shown
    assert "deep" in treescope.render_to_html(TREE, compressed=False)
