"""Figure 5: DeepFwFM's ROC AUC and latency against the rate of the field pairs (R).

    deeplight sweep --config sweeps/figure5.py --workdir SWEEP --config.data.dir=DATA
    deeplight sweep --config sweeps/figure5.py:avazu_baselines --workdir SWEEP --config.data.dir=DATA

Argument: a file of experiments/ that says how a member is trained (criteo_baselines, avazu_baselines;
criteo_small for 70,000 rows). One program: rates are traced. Ours on the paper's data: not yet run.
"""

from pathlib import Path

from deeplight_jax import load_config
from deeplight_jax.sweeping import Sweep, codes

RATES = (50, 60, 70, 80, 90, 95, 98, 99)


def get_sweep(arg: str = "criteo_baselines") -> Sweep:
    file = Path(__file__).parents[1] / "experiments" / f"{arg}.py"
    return Sweep(load_config(f"{file}:deepfwfm"), codes("", *(f"R{rate}" for rate in RATES)))
