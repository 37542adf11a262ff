"""Accuracy and rows kept under exact Adam, lazy Adam and row-wise Adagrad, on the same rows and seeds.

    deeplight prepare criteo train70k.txt.gz --out DATA --numeric bucket --min-count 1 --test-fraction 0.2
    .venv/bin/python benchmarks/rowsparse.py --data DATA --out RUNS --seeds 3   # of test rows
    .venv/bin/python benchmarks/rowsparse.py --data DATA --out TRIED --tune     # of validation rows
    .venv/bin/python benchmarks/rowsparse.py --unread                           # a weight that is not read

Each rule has its own settings: L2 meets a row as often as it is read, so exact Adam's is not theirs. They
were chosen by `--tune` on seed 0, dense. Lazy Adam's best there, 0.2, shrinks the rows of frequent values to
nothing: its model is little more than first-order weights (ROC AUC with embeddings at zero differs by 1e-5),
and pruning keeps rows that are seldom read. Rows kept: of the table, with a weight that is not zero.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np

from deeplight_jax.config import Config, default_config, load_config
from deeplight_jax.training.inspect import load_run
from deeplight_jax.training.loop import train

CONFIG = "experiments/criteo_small.py:deepfwfm"
CODES = ("dense", "D90-R90-F40")
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "lazy_adam": {"optim.embedding_l2": 0.2},
    "rowwise_adagrad": {"optim.embedding_learning_rate": 1e-2, "optim.embedding_l2": 0.2},
}
TRIED = {
    "lazy_adam": (
        (3e-4, 5e-3),
        (1e-3, 5e-3),
        (1e-3, 0.05),
        (1e-3, 0.2),
        (1e-3, 0.5),
        (3e-3, 0.05),
        (3e-3, 0.2),
    ),
    "rowwise_adagrad": (
        (3e-3, 5e-3),
        (3e-3, 0.05),
        (1e-2, 5e-3),
        (1e-2, 0.05),
        (1e-2, 0.2),
        (1e-2, 0.5),
        (3e-2, 5e-3),
    ),
}
"""(learning rate of tables, embedding_l2) of each trial."""


def config_of(data: str, rule: str, code: str, seed: int, changes: dict[str, Any]) -> Config:
    argument = "" if code == "dense" else f",{code}"
    settings = {"data.dir": data, "optim.embedding": rule, "seed": seed, **changes}
    return load_config(CONFIG + argument, settings)


def rows_kept(run: Path) -> float:
    """Share of the embedding table's rows with a weight that is not zero."""
    return float(np.asarray(load_run(run).params["embedding"]["table"]).any(axis=1).mean())


def compare(options: argparse.Namespace) -> None:
    print("| rows updated by | model | ROC AUC | log loss | rows kept |\n|---|---|---|---|---|")
    for code in CODES:
        for rule, changes in SETTINGS.items():
            results, kept = [], []
            for seed in range(options.seeds):
                run = options.out / f"{rule},{code},{seed}"
                results.append(train(config_of(options.data, rule, code, seed, changes), run))
                kept.append(rows_kept(run))
            areas, losses = ([r[key] for r in results] for key in ("roc_auc", "log_loss"))
            print(f"| {rule} | {code} | {mean(areas):.4f} ± {pstdev(areas):.4f} | {mean(losses):.4f} ± "
                  f"{pstdev(losses):.4f} | {mean(kept):.1%} |", flush=True)  # fmt: skip


def tune(options: argparse.Namespace) -> None:
    print(
        "| rows updated by | learning rate | embedding_l2 | ROC AUC, valid | steps |\n|---|---|---|---|---|"
    )
    for rule, tried in TRIED.items():
        for rate, l2 in tried:
            changes = {"optim.embedding_learning_rate": rate, "optim.embedding_l2": l2}
            run = options.out / f"{rule},{rate:g},{l2:g}"
            found = train(config_of(options.data, rule, "dense", 0, changes), run, split="valid")
            print(
                f"| {rule} | {rate:g} | {l2:g} | {found['roc_auc']:.4f} | {found['best_step']} |", flush=True
            )


def unread() -> None:
    """What exact Adam makes of a weight of 0.01 that has one gradient and then none, in float64."""
    print("| L2 | first gradient | after 10 steps | 100 | 1,000 | 2,000 | decay alone, 2,000 |")
    print("|---" * 7 + "|")
    for l2, gradient in product((3e-7, 5e-3), (1e-3, 1e-5)):
        optim = default_config().optim
        w, m, v, seen = 0.01, 0.0, 0.0, []
        for t in range(1, 2_001):
            g = (gradient if t == 1 else 0.0) + l2 * w
            m, v = optim.b1 * m + (1 - optim.b1) * g, optim.b2 * v + (1 - optim.b2) * g * g
            w -= optim.learning_rate * (m / (1 - optim.b1**t)) / ((v / (1 - optim.b2**t)) ** 0.5 + optim.eps)
            seen.append(w)
        cells = [f"{seen[t - 1]:.6f}" for t in (10, 100, 1_000, 2_000)]
        decayed = 0.01 * (1 - optim.learning_rate * l2) ** 2_000
        print(f"| {l2:g} | {gradient:g} | {' | '.join(cells)} | {decayed:.6f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="")
    parser.add_argument(
        "--out", default=Path("runs"), type=Path, help="directory of the runs; finished ones are read"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--unread", action="store_true")
    options = parser.parse_args()
    if options.unread:
        unread()
    else:
        (tune if options.tune else compare)(options)


if __name__ == "__main__":
    main()
