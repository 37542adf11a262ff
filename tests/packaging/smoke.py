"""What an installed wheel can do, in an empty folder: `smoke.py native`, then `numpy` beside its files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import deeplight_jax as dl
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.sweeping import load_sweep

EXPECTED = sys.argv[1]
BIN = Path(sys.executable).parent


def deeplight(*words: str, status: int = 0) -> str:
    """Everything a command says; it must end with the status, and without a traceback."""
    done = subprocess.run(
        [BIN / "deeplight", *words], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == status, f"deeplight {' '.join(words)}: {done.returncode}\n{done.stdout}"
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def main() -> None:
    assert Path(dl.__file__).is_relative_to(Path(sys.prefix)), f"{dl.__file__} is not the installed package"
    assert deeplight("--version").split() == ["deeplight", dl.__version__]
    assert "planted world" in deeplight("quickstart", "--help")
    if not Path("data").exists():
        deeplight("prepare", "synthetic", "--out", "data", "--rows", "4000")
    run = f"run-{EXPECTED}"
    config = "experiments/criteo_deepfwfm.py:smoke,D90-R90-F40"  # the package's own: there is none here
    deeplight("train", "--config", config, "--workdir", run, "--config.data.dir=data",
              "--config.data.batch_size=100")  # fmt: skip
    assert 0 < json.loads(deeplight("eval", "--run", run, "--json").splitlines()[-1])["roc_auc"] < 1
    said = deeplight("export", "--run", run, "--out", f"{run}.safetensors")
    said += deeplight(
        "score", "--artifact", f"{run}.safetensors", "--data", "data", "--out", "scores.parquet"
    )
    assert ("slower" in said.lower() or "numpy" in said.lower()) == (EXPECTED == "numpy"), said
    engine = dl.serving.load(f"{run}.safetensors")
    assert (engine.path == "numpy") == (EXPECTED == "numpy"), engine.path
    split = open_prepared("data").split("test")
    scores = engine.score(np.asarray(split.ids), np.asarray(split.values))
    np.testing.assert_allclose(scores, dl.serving.load(f"{run}.safetensors", "numpy").score(
        np.asarray(split.ids), np.asarray(split.values)), atol=1e-5)  # fmt: skip
    assert len(load_sweep("sweeps/table5.py").grid) == 4
    assert "pip install" in deeplight(
        "report", run, "--out", "report.html", status=2
    )  # matplotlib is an extra
    words = ["--config", "sweeps/table5.py", "--workdir", "sweep", "--config.data.dir=data"]
    said = deeplight(
        "sweep", *words, "--config.sparsity.short_schedule=rescale", "--backend", "ray", status=2
    )
    assert "pip install" in said, said


if __name__ == "__main__":
    main()
    print(f"smoke: {EXPECTED} works")
