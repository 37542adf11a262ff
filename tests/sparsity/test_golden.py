"""The default transform bit for bit: a digest written by the code from before there were other ways to prune.

All arithmetic of the run is exact in float32 (small integers times powers of two), so no machine, compiler or
order of sums can move a bit.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.transform import project_onto_masks

LABELS = {"a": "dnn", "b": "dnn", "r": "field", "t": "embedding", "u": "embedding", "bias": ""}
SHAPES = {"a": (12, 10), "b": (10, 8), "r": (9, 9), "t": (60, 3), "u": (40,), "bias": (5,)}
COMPONENTS = (
    Component("dnn", 0.9, "layer"),
    Component("field", 0.8, "symmetric"),
    Component("embedding", 0.6, "global"),
)
DIGESTS = {
    (True, 0): "2901b5a7e9e8eba1b3dc82d76e05b16afeaa3fb13437ceb83775fbbc7037128f",
    (True, 7): "4aa45c92840f91d370d19a51b842a9f9a39b4c2a043c5faf06d66f1241f53033",
    (False, 0): "cb6e5966e327ae48f39d5d880e875ea116ed786c385acd0a92b7556832a6c149",
    (False, 7): "0e0cc01cdae0a825634f68be6401cac6bfa71c8651037e13dadf91ff61d1f113",
}


def tree(seed):
    """Multiples of 2^-6, below 4."""
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.integers(-255, 256, s) / 64, jnp.float32) for n, s in SHAPES.items()}


def digest_of_run(regrow, epoch_steps):
    transform = project_onto_masks(
        LABELS, COMPONENTS, warmup_steps=6, interval_steps=4, epoch_steps=epoch_steps, damping=0.9,
        damping_steps=2.0, regrow=regrow,
    )  # fmt: skip
    chain = optax.chain(optax.sgd(0.125), transform)
    params = tree(0)
    state = chain.init(params)
    update = jax.jit(lambda g, s, p, step: chain.update(g, s, p, step=step))
    digest = hashlib.sha256()
    for step in range(1, 61):
        updates, state = update(tree(step), state, params, jnp.int32(step))
        params = optax.apply_updates(params, updates)
        for leaf in (*jax.tree.leaves(params), *jax.tree.leaves(state[-1].masks)):
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(("regrow", "epoch_steps"), [(True, 0), (True, 7), (False, 0), (False, 7)])
def test_the_default_has_not_moved_a_bit(regrow, epoch_steps):
    assert digest_of_run(regrow, epoch_steps) == DIGESTS[regrow, epoch_steps]
