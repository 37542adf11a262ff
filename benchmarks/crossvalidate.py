"""ROC AUC of a config by cross-validation within the rows of a prepared data set that are not test rows.

    .venv/bin/python benchmarks/crossvalidate.py --data DATA --config experiments/criteo_small.py:deepfwfm \\
        [--min-count 8] [--config.optim.eps=1e-8 ...]

Settings for a small data set are chosen here, so that test is read once, by the chosen ones. DATA is prepared
with `--min-count 1`; each fold counts its own vocabulary. Printed: mean over the folds after each epoch.
"""

from __future__ import annotations

import argparse
import sys

import jax
import numpy as np

from deeplight_jax.config import Config, load_config
from deeplight_jax.data.loader import train_batches
from deeplight_jax.data.prepared import Prepared, Split, open_prepared
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.evaluation.evaluate import evaluate_split
from deeplight_jax.models import abstract_params, build_model, row_tables
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import init_state
from deeplight_jax.training.step import make_train_step


def fold_of(data: Prepared, fold: int, folds: int, min_count: int) -> tuple[Schema, Split, Split]:
    """Schema, the rows to train on and those held out; ids seen too seldom in training become unknown."""
    parts = [data.split(name) for name in ("train", "valid")]
    ids, values, label = (np.concatenate([getattr(p, a) for p in parts]) for a in ("ids", "values", "label"))
    held = np.random.default_rng(7).permutation(len(label)) % folds == fold
    fields, encoded = list(data.schema.numeric), np.empty_like(ids)
    for c, field in enumerate(data.schema.categorical):
        kept = np.bincount(ids[~held, c], minlength=field.size) >= min_count
        kept[0] = True  # the unknown row
        encoded[:, c] = np.where(kept, np.cumsum(kept) - 1, 0)[ids[:, c]]
        fields.append(Field(field.name, "categorical", int(kept.sum())))
    train, valid = (Split(encoded[rows], values[rows], label[rows]) for rows in (~held, held))
    return Schema(tuple(fields)), train, valid


def roc_aucs(config: Config, schema: Schema, train: Split, valid: Split) -> list[float]:
    """ROC AUC of the projected model on the held-out rows after each epoch."""
    plan, model = make_plan(config, train.rows, [f.size for f in schema.fields]), build_model(config, schema)
    _, labels = abstract_params(model, schema)
    optimizer = build_optimizer(config, labels, plan, row_tables(model, schema))
    state, step = init_state(model, schema, optimizer, config.seed), make_train_step(model, optimizer, config)
    found, batches = [], train_batches(train, config.data.batch_size, config.seed)
    for _ in range(config.train.epochs):
        for _ in range(plan.epoch_steps):
            state, _ = step(state, next(batches))
        found.append(evaluate_split(model, state.projected(), valid, config.eval.batch_size).roc_auc)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--min-count", type=int, default=1)
    options, rest = parser.parse_known_args()
    config = load_config(options.config, [word.removeprefix("--config.") for word in rest])
    data = open_prepared(options.data)
    found = []
    for fold in range(options.folds):
        found.append(roc_aucs(config, *fold_of(data, fold, options.folds, options.min_count)))
        jax.clear_caches()
    mean = np.mean(found, axis=0)
    print(
        f"best {mean.max():.4f} after epoch {mean.argmax() + 1}:", *(f"{v:.4f}" for v in mean), *sys.argv[3:]
    )


if __name__ == "__main__":
    main()
