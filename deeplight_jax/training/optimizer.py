"""The optimizer: Adam with coupled L2, then projection onto the masks."""

from __future__ import annotations

from typing import Any

import jax
import optax

from deeplight_jax.config import Config
from deeplight_jax.sparsity.components import Labels
from deeplight_jax.sparsity.criteria import CRITERIA
from deeplight_jax.sparsity.growth import GROWTHS
from deeplight_jax.sparsity.schedule import SCHEDULES
from deeplight_jax.sparsity.transform import Rule, project_onto_masks
from deeplight_jax.training.plan import Plan


def coupled_adam(
    learning_rate: float,
    l2: float,
    embedding_l2: float = 0.0,
    dnn_l2: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    labels: Labels,
) -> optax.GradientTransformation:
    """Adam on g + l2 w: the decay passes through Adam's moments (not AdamW), every parameter, every step.

    Where `labels` say "embedding" or "dnn", embedding_l2 or dnn_l2 is added to l2.
    """

    def labelled(code: str) -> Any:
        return jax.tree.map(lambda label: label == code, labels)

    return optax.chain(
        optax.add_decayed_weights(l2),
        optax.add_decayed_weights(embedding_l2, mask=labelled("embedding")),
        optax.add_decayed_weights(dnn_l2, mask=labelled("dnn")),
        optax.scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def build_optimizer(config: Config, labels: Labels, plan: Plan) -> optax.GradientTransformationExtraArgs:
    """Algorithm 1 as one optax chain; learning rate, L2 and targets live in its state and are traced."""
    optim, sparsity = config.optim, config.sparsity
    adam = optax.inject_hyperparams(coupled_adam, static_args=("b1", "b2", "eps", "labels"))
    project = project_onto_masks(
        labels,
        plan.components,
        warmup_steps=plan.warmup_steps,
        interval_steps=sparsity.interval_steps,
        epoch_steps=plan.event_epoch_steps,
        damping=sparsity.damping,
        damping_steps=plan.damping_steps,
        regrow=sparsity.regrow,
        rule=_rule(config, plan),
    )
    decay = (optim.l2, optim.embedding_l2, optim.dnn_l2)
    coupled = adam(optim.learning_rate, *decay, optim.b1, optim.b2, optim.eps, labels=labels)
    return optax.chain(coupled, project)


def _rule(config: Config, plan: Plan) -> Rule:
    """How masks are chosen, by the names that the config gives."""
    sparsity, growth = config.sparsity, None
    if sparsity.growth != "none":
        growth = GROWTHS[sparsity.growth]._replace(rate=sparsity.growth_rate, steps=plan.growth_steps)
    return Rule(SCHEDULES[sparsity.schedule], CRITERIA[sparsity.criterion], growth, config.seed)
