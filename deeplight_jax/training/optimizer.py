"""The optimizer: Adam with coupled L2, for tables a row-sparse rule if asked for; then projection."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax.traverse_util import unflatten_dict

from deeplight_jax.config import Config
from deeplight_jax.layers.rows import Tables, by_path
from deeplight_jax.sparsity.components import Labels
from deeplight_jax.sparsity.criteria import CRITERIA
from deeplight_jax.sparsity.growth import GROWTHS
from deeplight_jax.sparsity.schedule import SCHEDULES
from deeplight_jax.sparsity.transform import Rule, project_onto_masks
from deeplight_jax.training.plan import Plan
from deeplight_jax.training.rowsparse import check_row_sparse, on_rows, scale_by_rowwise_adagrad


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

    return optax.chain(
        *_coupled_decay(l2, embedding_l2, dnn_l2, labels),
        optax.scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def coupled_row_sparse(
    learning_rate: float,
    embedding_learning_rate: float,
    l2: float,
    embedding_l2: float = 0.0,
    dnn_l2: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    rule: str,
    labels: Labels,
    tables: Tables,
) -> optax.GradientTransformation:
    """`coupled_adam` with another rule for tables, to be run on the rows that a batch reads (`on_rows`).

    Args:
      learning_rate, l2, embedding_l2, dnn_l2, b1, b2, eps, labels: as of `coupled_adam`; decay meets a row
        only when it is read.
      embedding_learning_rate: of tables.
      rule: "lazy_adam": Adam whose moments stand still while a row is not read, its bias correction by the
        number of the step. "rowwise_adagrad": `scale_by_rowwise_adagrad`.
      tables: their paths.
    """
    is_table = unflatten_dict({path: path in tables for path in by_path(labels)})
    adam = optax.scale_by_adam(b1, b2, eps)
    adagrad = optax.masked(scale_by_rowwise_adagrad(eps), is_table)
    others = optax.masked(adam, jax.tree.map(lambda table: not table, is_table))
    rates = jax.tree.map(lambda table: embedding_learning_rate if table else learning_rate, is_table)
    return optax.chain(
        *_coupled_decay(l2, embedding_l2, dnn_l2, labels),
        adam if rule == "lazy_adam" else optax.chain(adagrad, others),
        optax.stateless(lambda updates, _: jax.tree.map(lambda u, rate: -rate * u, updates, rates)),
    )


def _coupled_decay(
    l2: float, embedding_l2: float, dnn_l2: float, labels: Labels
) -> tuple[optax.GradientTransformation, ...]:
    def labelled(code: str) -> Any:
        return jax.tree.map(lambda label: label == code, labels)

    return (
        optax.add_decayed_weights(l2),
        optax.add_decayed_weights(embedding_l2, mask=labelled("embedding")),
        optax.add_decayed_weights(dnn_l2, mask=labelled("dnn")),
    )


def build_optimizer(
    config: Config, labels: Labels, plan: Plan, tables: Tables = frozenset()
) -> optax.GradientTransformationExtraArgs:
    """Algorithm 1 as one optax chain; learning rate, L2 and targets live in its state and are traced.

    Args:
      config: of the run.
      labels: component codes, structured as the parameters.
      plan: of the run.
      tables: `models.row_tables`, which a row-sparse `optim.embedding` needs; its `update` then takes `rows`.

    Raises:
      ConfigError: `optim.embedding` does not go with the pruning criterion or growth.
    """
    check_row_sparse(config)
    if config.optim.embedding != "adam" and not tables:
        raise ValueError(f"optim.embedding={config.optim.embedding} needs tables: models.row_tables")
    optim, sparsity = config.optim, config.sparsity
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
    betas = (optim.b1, optim.b2, optim.eps)
    if optim.embedding == "adam":
        adam = optax.inject_hyperparams(coupled_adam, static_args=("b1", "b2", "eps", "labels"))
        return optax.chain(adam(optim.learning_rate, *decay, *betas, labels=labels), project)
    static = ("b1", "b2", "eps", "rule", "labels", "tables")
    sparse = optax.inject_hyperparams(coupled_row_sparse, static_args=static)
    rates = (optim.learning_rate, optim.embedding_learning_rate or optim.learning_rate)
    chain = sparse(*rates, *decay, *betas, rule=optim.embedding, labels=labels, tables=tables)
    return on_rows(chain, project, held=sparsity.growth != "none" or not sparsity.regrow)


def _rule(config: Config, plan: Plan) -> Rule:
    """How masks are chosen, by the names that the config gives."""
    sparsity, growth = config.sparsity, None
    if sparsity.growth != "none":
        growth = GROWTHS[sparsity.growth]._replace(rate=sparsity.growth_rate, steps=plan.growth_steps)
    return Rule(SCHEDULES[sparsity.schedule], CRITERIA[sparsity.criterion], growth, config.seed)
