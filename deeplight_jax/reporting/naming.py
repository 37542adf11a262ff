"""A run's config in the words of a config file's argument."""

from __future__ import annotations

from deeplight_jax.config import COMPONENT_LETTERS, Config


def argument_of(config: Config, full_dim: int = 0) -> str:
    """A config in the words of a config file's argument: "deepfwfm,D90-R90-F40", "nfm,pairwise", "fm,E-40".

    Args:
      config: of a run.
      full_dim: values of an embedding that is not shortened; 0 where that is not known.
    """
    parts = [config.model.name]
    if config.model.name == "nfm" and config.model.nfm_pooling == "pairwise":
        parts.append("pairwise")
    if config.model.narrow:
        parts.append(f"N-{100 * config.model.narrow:g}")
    if (dim := config.model.embedding_dim) < full_dim:
        parts.append(f"E-{100 * (1 - dim / full_dim):.3g}")
    if code := code_of(config):
        parts.append(code)
    return ",".join(parts)


def code_of(config: Config, without: str = "") -> str:
    """A config's targets as a code, one component left out if need be; "" where nothing is pruned."""
    rates = {c: config.sparsity[name] for c, name in COMPONENT_LETTERS.items() if name != without}
    return "-".join(f"{letter}{100 * rate:.4g}" for letter, rate in rates.items() if rate)
