"""The optimizer: Adam with coupled L2, then projection onto the masks."""

from __future__ import annotations

import optax

from deeplight_jax.config import Config
from deeplight_jax.sparsity.components import Labels
from deeplight_jax.sparsity.transform import project_onto_masks
from deeplight_jax.training.plan import Plan


def coupled_adam(
    learning_rate: float, l2: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam on g + l2 w: the decay passes through Adam's moments (not AdamW), every parameter, every step."""
    return optax.chain(
        optax.add_decayed_weights(l2),
        optax.scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def build_optimizer(config: Config, labels: Labels, plan: Plan) -> optax.GradientTransformationExtraArgs:
    """Algorithm 1 as one optax chain; learning rate, L2 and targets live in its state and are traced."""
    optim, sparsity = config.optim, config.sparsity
    adam = optax.inject_hyperparams(coupled_adam, static_args=("b1", "b2", "eps"))
    project = project_onto_masks(
        labels,
        plan.components,
        warmup_steps=plan.warmup_steps,
        interval_steps=sparsity.interval_steps,
        epoch_steps=plan.event_epoch_steps,
        damping=sparsity.damping,
        damping_steps=plan.damping_steps,
        regrow=sparsity.regrow,
    )
    return optax.chain(adam(optim.learning_rate, optim.l2, optim.b1, optim.b2, optim.eps), project)
