"""Every model on 70,000 rows of Criteo, dense or pruned: settings for a data set too small for the paper's.

    deeplight prepare criteo train70k.txt.gz --out DATA --numeric bucket --min-count 1 --test-fraction 0.2
    deeplight train --config experiments/criteo_small.py:deepfwfm,D90-R90-F40 --workdir RUN \\
        --config.data.dir=DATA
    deeplight table models --config experiments/criteo_small.py --data DATA --out RUNS --seeds 3

Argument: as in `criteo_baselines.py`, the model first. Chosen by cross-validation within the rows that are
not test rows (benchmarks/crossvalidate.py); test is read once. Figures: benchmarks/RESULTS.md. What mattered:
every value keeps an id; Adam's epsilon far above its default, so that a value seen twice moves little; strong
L2 on the embeddings alone; first-order weights instead of field vectors in FwFM's linear term.
"""

from typing import Any

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config


def get_config(arg: str = "deepfwfm") -> ConfigDict:
    config = default_config().copy_and_resolve_references()
    config.model.hidden = (64, 64)
    config.model.linear = "weights"
    config.model.embedding_std = 0.03
    config.model.cin = (20, 20)
    config.model.hash_buckets = 1 << 18
    config.data.batch_size = 512
    config.optim.learning_rate = 1e-3
    config.optim.eps = 3e-5
    config.optim.l2 = 3e-5
    config.optim.embedding_l2 = 5e-3
    config.optim.dnn_l2 = 1e-3
    config.train.epochs = 12
    config.train.patience = 3
    config.train.keep = 1
    config.sparsity.damping_steps = 1.0  # targets are reached 458 steps behind the warm-up, in epoch 7 of 12
    _adapt(config, arg.partition(",")[0])
    apply_argument(config, arg)
    return config


def _adapt(config: Any, model: str) -> None:
    if model == "lr":  # its table holds first-order weights, which want less decay
        config.optim.learning_rate = 3e-3
        config.optim.eps = 1e-4
        config.optim.l2 = 0.0
        config.optim.embedding_l2 = 1e-4
    elif model == "poly2":
        config.optim.embedding_l2 = 2e-2
    elif model == "ffm":  # one vector a value and field: 39 times the memory
        config.model.embedding_dim = 4
    elif model == "autoint":
        config.model.attention_layers = 2
        config.model.attention_units = 8
