"""DeepLight in JAX: train click-through-rate models, prune them while they train, serve what is left.

The names below are the public API; each is imported when first used, so `import deeplight_jax as dl` is
cheap and needs no accelerator.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplight_jax import serving as serving
    from deeplight_jax.config import default_config as default_config
    from deeplight_jax.config import load_config as load_config
    from deeplight_jax.config import parse_code as parse_code
    from deeplight_jax.config import set_code as set_code
    from deeplight_jax.config import set_released as set_released
    from deeplight_jax.data.encode import prepare as prepare
    from deeplight_jax.data.prepared import open_prepared as open_prepared
    from deeplight_jax.data.recipes import RECIPES as RECIPES
    from deeplight_jax.data.schema import Batch as Batch
    from deeplight_jax.data.schema import Field as Field
    from deeplight_jax.data.schema import Schema as Schema
    from deeplight_jax.data.synthetic import World as World
    from deeplight_jax.data.synthetic import prepare_synthetic as prepare_synthetic
    from deeplight_jax.errors import DeeplightError as DeeplightError
    from deeplight_jax.evaluation.accounting import sparsity_report as sparsity_report
    from deeplight_jax.layers.prunable import prunable as prunable
    from deeplight_jax.layers.prunable import split_labels as split_labels
    from deeplight_jax.models import build_model as build_model
    from deeplight_jax.models.argument import apply_argument as apply_argument
    from deeplight_jax.serving.export import export as export
    from deeplight_jax.serving.raw import score_raw as score_raw
    from deeplight_jax.sparsity import masks as masks
    from deeplight_jax.sparsity.components import Component as Component
    from deeplight_jax.sparsity.masks import apply_masks as apply_masks
    from deeplight_jax.sparsity.masks import select_masks as select_masks
    from deeplight_jax.sparsity.schedule import damped as damped
    from deeplight_jax.sparsity.transform import project_onto_masks as project_onto_masks
    from deeplight_jax.training.inspect import evaluate as evaluate
    from deeplight_jax.training.inspect import load_masks as load_masks
    from deeplight_jax.training.inspect import load_run as load_run
    from deeplight_jax.training.loop import train as train

__version__ = "0.1.0"  # the one place: packaging reads it here

_HOMES = {
    "config": ("default_config", "load_config", "parse_code", "set_code", "set_released"),
    "data.encode": ("prepare",),
    "data.prepared": ("open_prepared",),
    "data.recipes": ("RECIPES",),
    "data.schema": ("Batch", "Field", "Schema"),
    "data.synthetic": ("World", "prepare_synthetic"),
    "errors": ("DeeplightError",),
    "evaluation.accounting": ("sparsity_report",),
    "layers.prunable": ("prunable", "split_labels"),
    "models": ("build_model",),
    "models.argument": ("apply_argument",),
    "serving.export": ("export",),
    "serving.raw": ("score_raw",),
    "sparsity.components": ("Component",),
    "sparsity.masks": ("apply_masks", "select_masks"),
    "sparsity.schedule": ("damped",),
    "sparsity.transform": ("project_onto_masks",),
    "training.inspect": ("evaluate", "load_masks", "load_run"),
    "training.loop": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"masks": "sparsity.masks", "serving": "serving"}  # public as a whole
__all__ = sorted({*_HOME_OF, *_MODULES})  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"deeplight_jax.{_MODULES[name]}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'deeplight_jax' has no attribute '{name}'")
    return getattr(import_module(f"deeplight_jax.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
