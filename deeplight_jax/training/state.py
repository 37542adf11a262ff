"""What a run carries from step to step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from deeplight_jax.data.schema import Schema
from deeplight_jax.models import init_params
from deeplight_jax.sparsity.churn import Churn
from deeplight_jax.sparsity.masks import Masks, apply_masks


class TrainState(struct.PyTreeNode):
    """The whole state of training; everything else is a view of it or a setting.

    Attributes:
      step: i32[], updates done.
      seed: u32[], of dropout.
      params: the weights as the optimizer left them; pruned ones may have grown back since the last event.
      opt_state: of `build_optimizer`; its last part owns the masks.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: Any

    @property
    def masks(self) -> Masks:
        """Masks of the last pruning event."""
        return self.opt_state[-1].masks

    @property
    def churn(self) -> Churn:
        """How masks have moved since the run began."""
        return self.opt_state[-1].churn

    def projected(self) -> Any:
        """The model that is evaluated, exported and reported: weights with pruned ones at zero."""
        return apply_masks(self.params, self.masks)

    def held_to(self, masks: Masks) -> TrainState:
        """The same state under other masks, the weights outside them at zero."""
        *others, project = self.opt_state
        project = project._replace(masks=jax.tree.map(jnp.asarray, masks))
        params = apply_masks(self.params, project.masks)
        return self.replace(params=params, opt_state=(*others, project))


def init_state(
    model: nn.Module, schema: Schema, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """A fresh state; parameters come from `seed`."""
    params, _ = init_params(model, schema, jax.random.key(seed))
    return TrainState(
        step=jnp.int32(0), seed=jnp.uint32(seed), params=params, opt_state=optimizer.init(params)
    )


def abstract_state(model: nn.Module, schema: Schema, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes of a state, to restore a checkpoint into, without any memory."""
    return jax.eval_shape(lambda: init_state(model, schema, optimizer, 0))
