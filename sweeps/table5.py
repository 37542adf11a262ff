"""Table 5: DeepFwFM dense and at the paper's three combinations of rates.

    deeplight sweep --config sweeps/table5.py --workdir SWEEP --config.data.dir=DATA
    deeplight sweep --config sweeps/table5.py:avazu_baselines --workdir SWEEP --config.data.dir=DATA

Argument: a file of experiments/ that says how a row is trained (criteo_baselines, avazu_baselines;
criteo_small for 70,000 rows). Paper: see `deeplight table 5`. Ours on its data: not yet run.
"""

from pathlib import Path

from deeplight_jax.sweeping import Sweep, of_arguments
from deeplight_jax.sweeping.paper import table_entries


def get_sweep(arg: str = "criteo_baselines") -> Sweep:
    file = Path(__file__).parents[1] / "experiments" / f"{arg}.py"
    entries = table_entries("5", "avazu" if arg.startswith("avazu") else "criteo")
    return Sweep(*of_arguments(file, [entry.argument for entry in entries]))
