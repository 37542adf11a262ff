"""How a layer declares, where it makes a parameter, that it is prunable and by which component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax import struct

from deeplight_jax.sparsity.components import UNPRUNED, Labels


class Prunable(struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
    """A parameter in its box: Linen unboxes it wherever a module reads it.

    Attributes:
      value: the parameter.
      component: code of the component that prunes it ("dnn", "field", "embedding", "cin", or a user's).
    """

    value: Any
    component: str = struct.field(pytree_node=False)

    def unbox(self) -> Any:
        return self.value

    def replace_boxed(self, val: Any) -> Prunable:
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> Prunable:
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> Prunable:
        return self


def prunable(init: Callable[..., jax.Array], component: str) -> Callable[..., Any]:
    """An initialiser whose parameter belongs to `component`; "" leaves it unpruned.

    Example: `self.param("kernel", prunable(nn.initializers.glorot_normal(), "dnn"), shape)`.
    """
    if component == UNPRUNED:
        return init
    return lambda key, *args, **kwargs: Prunable(init(key, *args, **kwargs), component)


def split_labels(boxed: Any) -> tuple[Any, Labels]:
    """Parameters and their labels, from what `module.init` returned (or `jax.eval_shape` of it).

    Returns:
      The unboxed pytree, and a pytree of the same structure with each leaf's component code ("" = none).
    """

    def is_box(x: Any) -> bool:
        return isinstance(x, Prunable)

    labels = jax.tree.map(lambda x: x.component if is_box(x) else UNPRUNED, boxed, is_leaf=is_box)
    return nn.meta.unbox(boxed), labels
