"""How much ROC AUC interactions can add to a logistic regression on a small data set, by other means.

    .venv/bin/python benchmarks/headroom.py --data DATA

On the folds of `crossvalidate.py`: scikit-learn's one-hot logistic regression, gradient-boosted trees on
each value's out-of-fold click rate, trees of depth one (no interaction), and the sum of both scores. What the
trees add to the regression is about what any model of interactions can hope for.
"""

from __future__ import annotations

import argparse

import numpy as np
from crossvalidate import fold_of
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from deeplight_jax.data.prepared import Split, open_prepared
from deeplight_jax.data.schema import Schema
from deeplight_jax.evaluation.metrics import roc_auc


def one_hot(schema: Schema, split: Split) -> csr_matrix:
    columns = (split.ids + schema.offsets).ravel()
    ends = np.arange(0, columns.size + 1, split.ids.shape[1])
    return csr_matrix((np.ones(columns.size), columns, ends), (split.rows, schema.num_rows))


def click_rates(
    schema: Schema, train: Split, valid: Split, prior: float = 20.0
) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed log odds of each value: out of fold for train rows, from all of them for held-out rows."""
    fold = np.random.default_rng(0).integers(0, 5, train.rows)
    base, out = train.label.mean(), (np.empty(train.ids.shape), np.empty(valid.ids.shape))

    def log_odds(rows: np.ndarray, c: int, size: int) -> np.ndarray:
        seen = np.bincount(train.ids[rows, c], minlength=size)
        clicks = np.bincount(train.ids[rows, c], train.label[rows], minlength=size)
        return np.log((clicks + prior * base) / (seen - clicks + prior * (1 - base)))

    for c, field in enumerate(schema.categorical):
        for i in range(5):
            out[0][fold == i, c] = log_odds(fold != i, c, field.size)[train.ids[fold == i, c]]
        out[1][:, c] = log_odds(fold >= 0, c, field.size)[valid.ids[:, c]]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    data, found = open_prepared(options.data), []
    for k in range(options.folds):
        schema, train, valid = fold_of(data, k, options.folds, min_count=1)
        linear = LogisticRegression(C=0.1, max_iter=300).fit(one_hot(schema, train), train.label)
        scores = {"regression": linear.decision_function(one_hot(schema, valid))}
        inputs, held = click_rates(schema, train, valid)
        for name, leaves in (("trees", 15), ("stumps", 2)):
            trees = HistGradientBoostingClassifier(
                learning_rate=0.05,
                max_iter=200,
                max_leaf_nodes=leaves,
                min_samples_leaf=50,
                l2_regularization=5,
            )
            scores[name] = trees.fit(inputs, train.label).decision_function(held)
            scores[f"regression + {name}"] = scores["regression"] + scores[name]
        found.append({name: roc_auc(s.astype(np.float32), valid.label) for name, s in scores.items()})
    for name in found[0]:
        print(f"{name:22s} {np.mean([f[name] for f in found]):.4f}")


if __name__ == "__main__":
    main()
