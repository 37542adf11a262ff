"""DeepLight's way to prune beside others, at equal rates, on 70,000 rows of Criteo.

    deeplight prepare criteo train70k.txt.gz --out DATA --numeric bucket --min-count 1 --test-fraction 0.2
    deeplight table criteria --config experiments/criteo_criteria.py --data DATA --out RUNS --seeds 3
    deeplight train --config experiments/criteo_criteria.py:deepfwfm,D98-R95-F98,saliency --workdir RUN \\
        --config.data.dir=DATA

Argument: as in `criteo_small.py`, whose settings these are; the ways to prune are words of it: random,
movement, saliency; polynomial, one_shot; set, rigl; per_field, rows, units, 2:4. Results:
benchmarks/RESULTS.md; only with `--config.model.linear=field_vector`, which leaves nothing beside the pruned
table, do the ways differ.
"""

from pathlib import Path

from ml_collections import ConfigDict

from deeplight_jax import load_config


def get_config(arg: str = "deepfwfm,D98-R95-F98") -> ConfigDict:
    config = load_config(f"{Path(__file__).with_name('criteo_small.py')}:{arg}").copy_and_resolve_references()
    if config.sparsity.growth != "none":
        config.sparsity.interval_steps = 50  # a grown weight needs time to grow; RigL's own: 100 to 1000
    return config
