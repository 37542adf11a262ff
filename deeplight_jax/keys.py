"""Every key of a config: its default, and the values that it may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

COMPONENT_LETTERS = {
    "D": "dnn",
    "R": "field",
    "F": "embedding",
    "C": "cin",
    "X": "cross",
    "A": "attention",
}

DEFAULTS: dict[str, Any] = {
    "seed": 0,  # of initialisation, shuffling and dropout
    "model": {
        "name": "deepfwfm",  # one of the models of models.MODELS
        "embedding_dim": 10,  # k: values of a table row
        "hidden": (400, 400, 400),  # units of the deep net's hidden layers
        "narrow": 0.0,  # shrink them to the size of a net pruned to this rate (N-X of the paper's Table 4)
        "dropout": 0.5,  # on the deep net's input and each hidden layer
        "dropout_steps": 0,  # dropout for the first so many steps only; 0: always
        "dropout_bits": "hash",  # hash: counter hash, cheap; threefry: jax.random
        "embedding_std": 0.01,  # standard deviation of the table's normal initialisation
        "linear": "field_vector",  # FwFM's linear term: <e_f, v_f>; weights: one a table row, as FM's
        "linear_field_weight": True,  # one more weight a field on the linear term (released program)
        "field_matrix": "pairs",  # n(n-1)/2 weights; full: n x n, symmetrised (released program)
        "nfm_pooling": "pooled",  # NFM: sum e_i * e_j; pairwise: each <e_i, e_j> (released program)
        "cin": (100, 100, 50),  # xDeepFM: feature maps of each CIN layer
        "cin_split_half": True,  # half of a CIN layer's maps go on, the other half to the output
        "cross_layers": 3,  # DCN, DCN-V2
        "attention_layers": 3,  # AutoInt
        "attention_heads": 2,  # of each of those layers
        "attention_units": 32,  # values a head
        "hash_buckets": 1 << 20,  # Poly2: weights shared by all pairs of values
        "compute_dtype": "float32",  # or bfloat16, behind the tables; weights stay float32
    },
    "data": {
        "dir": "",  # what `deeplight prepare` wrote
        "batch_size": 2048,  # rows a training step
        "shuffle_seed": -1,  # of the order of the rows; -1: `seed`
        "verify": True,  # compare every file with its SHA-256 before training
    },
    "optim": {
        "learning_rate": 1e-3,  # of Adam
        "b1": 0.9,  # decay of Adam's mean of gradients
        "b2": 0.999,  # decay of Adam's mean of their squares
        "eps": 1e-8,  # added to the root of the latter
        "l2": 3e-7,  # coupled: added to the gradient before Adam, every parameter, every step
        "embedding_l2": 0.0,  # the same on top of it, for the parameters that F prunes
        "dnn_l2": 0.0,  # the same on top of it, for the parameters that D prunes
        "embedding": "adam",  # or lazy_adam, rowwise_adagrad: of tables, only rows that a batch reads
        "embedding_learning_rate": 0.0,  # of tables under the latter two; 0: learning_rate
    },
    "sparsity": {
        "dnn": 0.0,  # target rates: D of "D90-R90-F40", the deep net's hidden layers
        "field": 0.0,  # R, the field pairs
        "embedding": 0.0,  # F, the table
        "cin": 0.0,  # C, xDeepFM's filters
        "cross": 0.0,  # X, the cross network of DCN and DCN-V2
        "attention": 0.0,  # A, AutoInt's attention
        "damping": 0.99,  # D of s = S(1 - D^(k/U))
        "damping_steps": 100.0,  # U
        "interval_steps": 10,  # an event every so many steps after warm-up
        "warmup_epochs": 2.0,  # trained dense before pruning begins
        "regrow": True,  # pruned weights may return between events
        "criterion": "magnitude",  # or random, movement, saliency: what is ranked; see sparsity.criteria
        "schedule": "damped",  # or polynomial, one_shot: how the rate grows behind the warm-up
        "growth": "none",  # or random (SET), gradient (RigL): swap kept weights at a constant count
        "growth_rate": 0.3,  # share of the kept swapped at first; falls to 0 at 75 % of the pruning steps
        "dnn_scope": "layer",  # or global, units (whole ones), N:M (N of each M inputs): what D ranks
        "embedding_scope": "global",  # or per_field (each field to the rate), rows (whole ones): what F ranks
        "init_masks": "",  # a file of `deeplight masks merge`: start from these masks, the rest at zero
        "epoch_end_event": False,  # one more event at an epoch's last batch (released program)
        "prune_linear": False,  # D prunes the linear term v, too (released program)
        "reach": 0.99,  # share of a target that the schedule must reach before the end
        "short_schedule": "error",  # too few steps for that: error, rescale (U) or accept
    },
    "train": {
        "epochs": 10,  # passes over the train split, warm-up included
        "checkpoint_steps": 0,  # save every so many steps, beside every epoch's end; 0: then only
        "keep": 2,  # latest checkpoints kept, beside the best
        "patience": 0,  # stop after so many epochs without a better one; 0: never
        "monitor": "roc_auc",  # metric on the validation split that picks the best epoch
        "on_nonfinite": "stop",  # at a loss that is not finite; or skip: drop such updates, and count them
        "init_from": "",  # RUN or RUN@STEP: go on from that run's checkpoint
    },
    "eval": {
        "batch_size": 8192,  # rows scored at once: speed and memory
    },
    "mesh": {  # a place, not a setting: a run may go on on another mesh
        "data": 1,  # devices: data times table of them, a batch's rows split over all
        "table": 1,  # in how many blocks of rows a table is held
    },
}


def _sizes(layers: Sequence[Any], least: int) -> bool:
    return all(isinstance(units, int) and units >= least for units in layers)


def _keeps_some(scope: str) -> bool:
    found = re.fullmatch(r"(\d+):(\d+)", scope)
    return bool(found) and 0 < int(found[1]) < int(found[2])


CHOICES: dict[str, tuple[str, ...]] = {
    "model.dropout_bits": ("hash", "threefry"),
    "model.linear": ("field_vector", "weights"),
    "model.field_matrix": ("pairs", "full"),
    "model.nfm_pooling": ("pooled", "pairwise"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "optim.embedding": ("adam", "lazy_adam", "rowwise_adagrad"),
    "sparsity.short_schedule": ("error", "rescale", "accept"),
    "sparsity.criterion": ("magnitude", "random", "movement", "saliency"),
    "sparsity.schedule": ("damped", "polynomial", "one_shot"),
    "sparsity.growth": ("none", "random", "gradient"),
    "sparsity.embedding_scope": ("global", "per_field", "rows"),
    "train.monitor": ("roc_auc", "log_loss"),
    "train.on_nonfinite": ("stop", "skip"),
}
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "seed": ("0 or more and below 2^31", lambda x: 0 <= x < 2**31),
    "model.embedding_dim": ("1 or more", lambda x: x >= 1),
    "model.narrow": ("a rate in [0, 1)", lambda x: 0 <= x < 1),
    "model.hidden": ("layer sizes of 1 or more", lambda x: _sizes(x, 1)),
    "model.cin": ("one or more layer sizes of 2 or more", lambda x: len(x) > 0 and _sizes(x, 2)),
    "model.cross_layers": ("1 or more", lambda x: x >= 1),
    "model.attention_layers": ("1 or more", lambda x: x >= 1),
    "model.attention_heads": ("1 or more", lambda x: x >= 1),
    "model.attention_units": ("1 or more", lambda x: x >= 1),
    "model.hash_buckets": ("1 or more and below 2^31", lambda x: 1 <= x < 2**31),
    "model.dropout": ("in [0, 1)", lambda x: 0 <= x < 1),
    "model.dropout_steps": ("0 or more", lambda x: x >= 0),
    "model.embedding_std": ("above 0", lambda x: x > 0),
    "data.batch_size": ("1 or more", lambda x: x >= 1),
    "data.shuffle_seed": ("-1, or 0 or more and below 2^31", lambda x: -1 <= x < 2**31),
    "optim.learning_rate": ("above 0", lambda x: x > 0),
    "optim.b1": ("in [0, 1)", lambda x: 0 <= x < 1),
    "optim.b2": ("in [0, 1)", lambda x: 0 <= x < 1),
    "optim.eps": ("above 0", lambda x: x > 0),
    "optim.l2": ("0 or more", lambda x: x >= 0),
    "optim.embedding_l2": ("0 or more", lambda x: x >= 0),
    "optim.dnn_l2": ("0 or more", lambda x: x >= 0),
    "optim.embedding_learning_rate": ("0 or more", lambda x: x >= 0),
    **{f"sparsity.{c}": ("a rate in [0, 1)", lambda x: 0 <= x < 1) for c in COMPONENT_LETTERS.values()},
    "sparsity.damping": ("in (0, 1)", lambda x: 0 < x < 1),
    "sparsity.damping_steps": ("above 0", lambda x: x > 0),
    "sparsity.interval_steps": ("1 or more", lambda x: x >= 1),
    "sparsity.warmup_epochs": ("0 or more", lambda x: x >= 0),
    "sparsity.growth_rate": ("a share in (0, 1)", lambda x: 0 < x < 1),
    "sparsity.dnn_scope": (
        "layer, global, units, or N:M with N from 1 to below M, such as 2:4",
        lambda x: x in ("layer", "global", "units") or _keeps_some(x),
    ),
    "sparsity.reach": ("in (0, 1)", lambda x: 0 < x < 1),
    "train.epochs": ("1 or more", lambda x: x >= 1),
    "train.checkpoint_steps": ("0 or more", lambda x: x >= 0),
    "train.keep": ("1 or more", lambda x: x >= 1),
    "train.patience": ("0 or more", lambda x: x >= 0),
    "eval.batch_size": ("1 or more", lambda x: x >= 1),
    "mesh.data": ("1 or more", lambda x: x >= 1),
    "mesh.table": ("1 or more", lambda x: x >= 1),
}
