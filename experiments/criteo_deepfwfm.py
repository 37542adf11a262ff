"""DeepFwFM on Criteo, dense or pruned (paper: Tables 3 and 5).

    deeplight prepare criteo RAW... --out DATA
    deeplight train --config experiments/criteo_deepfwfm.py:paper --workdir RUN --config.data.dir=DATA
    deeplight train --config experiments/criteo_deepfwfm.py:paper,D90-R90-F40 --workdir RUN ...

Arguments: `paper` (default), `released` (as the authors' program does it), `smoke` (a small net, two
epochs), each with a sparsity code behind a comma if the model is to be pruned. For `released`, prepare the
data with `--numeric floor --vocab-scope all`.

Paper, 45.8M rows: dense log loss .4403, ROC AUC .8116, 13,739,321 parameters; D90-R90-F40 .4395, .8123,
8,012,094. Ours on that data: not yet run.
"""

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config


def get_config(arg: str = "paper") -> ConfigDict:
    config = default_config().copy_and_resolve_references()  # the defaults are the paper's
    apply_argument(config, arg)
    return config
