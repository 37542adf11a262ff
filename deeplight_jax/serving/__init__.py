"""Serving: a trained model as one checked file, and an engine that scores rows by it without JAX."""

from deeplight_jax.serving.engine import Engine as Engine
from deeplight_jax.serving.engine import load as load
