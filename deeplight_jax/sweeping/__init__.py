"""Grids of runs: `axis`, `product`, `zipped`, `codes` and `Sweep`, for the files in sweeps/."""

from deeplight_jax.sweeping.grid import Sweep as Sweep
from deeplight_jax.sweeping.grid import axis as axis
from deeplight_jax.sweeping.grid import codes as codes
from deeplight_jax.sweeping.grid import load_sweep as load_sweep
from deeplight_jax.sweeping.grid import of_arguments as of_arguments
from deeplight_jax.sweeping.grid import product as product
from deeplight_jax.sweeping.grid import zipped as zipped
