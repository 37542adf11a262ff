"""DeepFwFM on Avazu, dense or pruned (paper: Tables 3 and 5).

    deeplight prepare avazu RAW... --out DATA
    deeplight train --config experiments/avazu_deepfwfm.py:paper --workdir RUN --config.data.dir=DATA
    deeplight train --config experiments/avazu_deepfwfm.py:paper,D90-R90-F20 --workdir RUN ...

Arguments: `paper` (default), `released` (as the authors' program does it), `smoke` (a small net, two
epochs), each with a sparsity code behind a comma if the model is to be pruned. For `released`, prepare the
data with `--vocab-scope all`.

Paper, 40.4M rows: dense log loss .3751, ROC AUC .7893, 31,208,053 parameters; D90-R90-F20 .3748, .7897,
24,808,262. Ours on that data: not yet run.
"""

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config


def get_config(arg: str = "paper") -> ConfigDict:
    config = default_config().copy_and_resolve_references()
    config.model.embedding_dim = 20
    config.model.hidden = (300, 300, 300)
    config.optim.l2 = 6e-7
    apply_argument(config, arg)
    return config
