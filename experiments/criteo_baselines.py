"""Every model on Criteo at the paper's settings, dense or pruned (paper: Tables 3, 4, 5 and 6).

    deeplight prepare criteo RAW... --out DATA
    deeplight train --config experiments/criteo_baselines.py:xdeepfm --workdir RUN --config.data.dir=DATA
    deeplight table 3 --data DATA --out RUNS

Argument: parts between commas: a model (lr poly2 fm ffm fwfm fmfm widedeep deepfm nfm pnn dcn dcnv2 autoint
xdeepfm deepfwfm), a sparsity code (D90-R90-F40; C for xDeepFM's CIN, X for DCN's cross network, A for
AutoInt's attention), N-90 (narrower net), E-40 (shorter embeddings), pairwise (NFM as the paper counts it),
released (the authors' settings), smoke (a small net, two epochs).

Paper, 45.8M rows: see `deeplight table 3`. Ours on that data: not yet run.
"""

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config


def get_config(arg: str = "deepfwfm") -> ConfigDict:
    config = default_config().copy_and_resolve_references()  # the defaults are the paper's
    apply_argument(config, arg)
    return config
