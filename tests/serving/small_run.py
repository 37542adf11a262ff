"""Raw Criteo-layout rows and small runs, made through the command line."""

import numpy as np

from deeplight_jax.cli import main

SMALL = ["--config.model.hidden=(12,8)", "--config.model.embedding_dim=4", "--config.data.batch_size=256"]


def raw_rows(file, rows, seed, values=6):
    """Criteo-layout lines whose label leans on C1."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        c = [f"{v:08x}" for v in rng.integers(0, values, 26)]
        label = int(rng.random() < (0.7 if int(c[0], 16) < 3 else 0.2))
        lines.append("\t".join([str(label), *map(str, rng.integers(0, 50, 13)), *c]))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def trained(workdir, data, argument, epochs=5):
    config = f"experiments/criteo_deepfwfm.py:{argument}"
    command = ["train", "--config", config, "--workdir", str(workdir), f"--config.data.dir={data}", *SMALL]
    assert main([*command, f"--config.train.epochs={epochs}"]) == 0
    return workdir
