"""Every model on Avazu at the paper's settings, dense or pruned (paper: Tables 3, 4, 5 and 6).

    deeplight prepare avazu RAW... --out DATA
    deeplight train --config experiments/avazu_baselines.py:nfm --workdir RUN --config.data.dir=DATA
    deeplight table 3 --data DATA --out RUNS

Argument: as in `criteo_baselines.py`. Paper, 40.4M rows: see `deeplight table 3`. Ours on that data: not
yet run.
"""

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config


def get_config(arg: str = "deepfwfm") -> ConfigDict:
    config = default_config().copy_and_resolve_references()
    config.model.embedding_dim = 20
    config.model.hidden = (300, 300, 300)
    config.optim.l2 = 6e-7
    apply_argument(config, arg)
    return config
