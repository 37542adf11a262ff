"""The authors' published sparsity trajectory on Criteo, D90-R90-F39.96 (their training log), reproduced.

The schedule and the threshold run at the paper's sizes on random weights: which weights go is chance, how
many is not.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.masks import select_masks
from deeplight_jax.sparsity.schedule import damped

EPOCH_STEPS = 20_145
NONZERO = {
    3: 8_768_843,
    4: 8_110_084,
    5: 8_023_718,
    6: 8_011_651,
    7: 8_011_074,
    8: 8_010_706,
    9: 8_010_654,
    10: 8_012_094,
}
SHAPES = {
    "embedding": (1_326_055, 10), "v": (39, 10), "r": (39, 39),
    "w0": (390, 400), "w1": (400, 400), "w2": (400, 400),
}  # fmt: skip
LABELS = {"embedding": "embedding", "v": "dnn", "r": "field", "w0": "dnn", "w1": "dnn", "w2": "dnn"}
UNPRUNED = 3 * 400 + 400 + 39 + 1  # hidden biases, output weights, linear field weights, bias
COMPONENTS = (
    Component("dnn", 0.9, "layer"),
    Component("field", 0.9, "symmetric"),
    Component("embedding", 0.9 * 0.444, "global"),
)
OPTIMIZED = {"xla_backend_optimization_level": 2, "xla_llvm_disable_expensive_passes": False}


def test_nonzero_counts_after_each_epoch():
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}
    np.fill_diagonal(params["r"], 0)  # it has no gradient and decays to nothing

    @partial(jax.jit, compiler_options=OPTIMIZED)
    def nonzero(params, k):
        rates = {c.code: damped(c.target, k) for c in COMPONENTS}
        masks = select_masks(params, LABELS, COMPONENTS, rates)
        return {name: jnp.sum(m, dtype=jnp.int32) for name, m in masks.items()}

    for epoch in (3, 4, 10):  # the rate's steep part, its bend and its end
        published = NONZERO[epoch]
        counts = {n: int(c) for n, c in nonzero(params, (epoch - 2) * EPOCH_STEPS).items()}
        assert abs(sum(counts.values()) + UNPRUNED - published) <= 1_500, f"epoch {epoch}"
    assert counts["r"] == 152  # 76 pairs, each twice
    assert abs(counts["embedding"] - 7_962_658) <= 1_500
    assert abs(counts["w0"] + counts["w1"] + counts["w2"] + 1_200 - 48_805) <= 10
    assert counts["v"] == 39
    assert np.isclose(1 - counts["embedding"] / 13_260_550, 0.9 * 0.444, atol=1e-6)
