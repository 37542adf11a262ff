"""Adam with coupled L2 against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deeplight_jax.training.optimizer import coupled_adam

LABELS = {"table": "embedding", "kernel": "dnn", "bias": ""}
LR, L2, EMBEDDING_L2, DNN_L2, B1, B2, EPS = 1e-2, 1e-2, 0.3, 0.1, 0.9, 0.99, 1e-6


def test_coupled_l2_passes_through_adams_moments():
    rng = np.random.default_rng(0)
    start = {name: rng.normal(size=5) for name in LABELS}
    gradients = [{name: rng.normal(size=5) for name in LABELS} for _ in range(7)]
    optimizer = coupled_adam(LR, L2, EMBEDDING_L2, DNN_L2, B1, B2, EPS, labels=LABELS)
    params = {name: jnp.asarray(x, jnp.float32) for name, x in start.items()}
    state = optimizer.init(params)
    for gradient in gradients:
        small = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient)
        updates, state = optimizer.update(small, state, params)
        params = optax.apply_updates(params, updates)
    for name, weights in start.items():
        decay = L2 + {"embedding": EMBEDDING_L2, "dnn": DNN_L2, "": 0}[LABELS[name]]
        for i, w in enumerate(weights):
            m = v = 0.0
            for t, gradient in enumerate(gradients, start=1):
                g = gradient[name][i] + decay * w
                m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
                w -= LR * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
            np.testing.assert_allclose(params[name][i], w, rtol=1e-5, atol=1e-6)
