"""Table 5: DeepFwFM dense and at the paper's three combinations of rates, on Criteo or Avazu.

    deeplight sweep --config sweeps/table5.py --workdir SWEEP --config.data.dir=DATA
    deeplight sweep --config sweeps/table5.py:avazu --workdir SWEEP --config.data.dir=DATA

Argument: criteo, avazu, or small (70,000 rows of Criteo, settings of experiments/criteo_small.py).

Paper: see `deeplight table 5`. Ours on its data: not yet run.
"""

from pathlib import Path

from deeplight_jax.sweeping import Sweep, of_arguments
from deeplight_jax.sweeping.paper import table_entries

_FILES = {"criteo": "criteo_baselines.py", "avazu": "avazu_baselines.py", "small": "criteo_small.py"}


def get_sweep(arg: str = "criteo") -> Sweep:
    file = Path(__file__).parents[1] / "experiments" / _FILES[arg]
    entries = table_entries("5", "avazu" if arg == "avazu" else "criteo")
    return Sweep(*of_arguments(file, [entry.argument for entry in entries]))
