"""Whether two runs left the same behind, bit for bit."""

import json
from pathlib import Path

import jax
import numpy as np
from whole_runs import final_state

from deeplight_jax.training import checkpoint


def result_of(workdir: Path) -> dict:
    """result.json without what a clock decides."""
    result = json.loads((workdir / "result.json").read_text())
    assert result.pop("wall_s") > 0
    return result


def assert_same_run(workdir: Path, calm: Path, config, data) -> None:
    """Final state, metrics and result are equal bit for bit, and nothing temporary is left."""
    found, expected = (final_state(config, w, data) for w in (workdir, calm))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert a.dtype == b.dtype, name
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name
    assert (workdir / "metrics.jsonl").read_text() == (calm / "metrics.jsonl").read_text()
    assert result_of(workdir) == result_of(calm)
    whole = {str(step) for step in checkpoint.saved_steps(workdir / "checkpoints")}
    assert {p.name for p in (workdir / "checkpoints").iterdir() if p.is_dir()} == whole
    assert not [p for p in workdir.rglob("*") if p.name.endswith(".tmp")]
