"""A planted world and settings so small that a whole run takes a second, for the rooms whose tests train."""

from deeplight_jax.data.synthetic import World, prepare_synthetic

SETTINGS = {
    "data.batch_size": 128,
    "model.embedding_dim": 3,
    "model.hidden": (8, 6),
    "optim.learning_rate": 3e-3,
    "sparsity.warmup_epochs": 1.0,
    "sparsity.short_schedule": "rescale",
    "train.epochs": 3,
    "eval.batch_size": 300,
}
RATES = {"sparsity.dnn": 0.9, "sparsity.field": 0.8, "sparsity.embedding": 0.4}


def planted(tmp_path_factory, rows, largest, pairs):
    """A prepared world in a directory of its own."""
    path = tmp_path_factory.mktemp("world") / "data"
    return prepare_synthetic(path, World(rows=rows, largest=largest, pairs=pairs))
