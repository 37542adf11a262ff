"""Every model on Frappe, split as in the BARS benchmark (Frappe_x1: 202,027 / 28,860 / 57,722 rows).

    deeplight prepare libsvm train.libsvm --valid valid.libsvm --test test.libsvm --out DATA
    deeplight prepare csv train.csv --valid valid.csv --test test.csv --columns frappe.toml --out DATA
    deeplight table models --config experiments/frappe.py --data DATA --out RUNS

with `label = "label"` and `categorical = ["user", "item", ...]` (10 fields) in frappe.toml for CSV files. The
data may not be redistributed, so it has to be brought along. Argument: as in `criteo_baselines.py`.

BARS, ROC AUC / log loss: LR .9356/.3076, FM .9671/.2065, FFM .9786/.1860, FwFM .9776/.2030, FmFM .9749/.2004,
NFM .9804/.2058, IPNN .9841/.1540, Wide&Deep .9841/.1490, DeepFM .9842/.1482, DCN .9839/.1527, DCN-V2
.9845/.1491, xDeepFM .9845/.1466. Its deep models use batch normalisation, which these do not have. Ours on
that data: not yet run.
"""

from ml_collections import ConfigDict

from deeplight_jax import apply_argument, default_config

# what BARS adds to the loss is these L2 / 2 |table|^2, on the tables alone; and its dropout
_L2 = {"lr": 1e-5, "fm": 5e-6, "fwfm": 5e-6, "nfm": 1e-4, "deepfm": 0.05, "xdeepfm": 0.1, "dcnv2": 0.05}
_DROPOUT = {"deepfm": 0.2, "nfm": 0.4, "xdeepfm": 0.2, "dcnv2": 0.4}


def get_config(arg: str = "deepfwfm") -> ConfigDict:
    name = arg.partition(",")[0]
    config = default_config().copy_and_resolve_references()
    config.model.cin = (64,)
    config.model.cross_layers = 4
    config.model.dropout = _DROPOUT.get(name, 0.2)
    config.data.batch_size = 4096
    config.optim.l2 = 0.0
    config.optim.embedding_l2 = _L2.get(name, 0.05)
    config.sparsity.short_schedule = "rescale"
    config.train.epochs = 50
    config.train.patience = 2
    apply_argument(config, arg)
    return config
