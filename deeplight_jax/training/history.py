"""Evaluations of a run so far, and what follows from them: the best, and whether to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deeplight_jax.errors import RunError


class Evaluation(NamedTuple):
    """The projected model on the validation split after some step.

    Attributes:
      step: updates done.
      ripe: whether pruning had reached its targets; only such a model may be the best.
      roc_auc: of the validation split.
      log_loss: of the validation split, nats a row.
    """

    step: int
    ripe: bool
    roc_auc: float
    log_loss: float


def best(history: Sequence[Evaluation], monitor: str) -> Evaluation | None:
    """The earliest of the ripe evaluations with the best monitored metric, or None if none is ripe yet."""
    return max((e for e in history if e.ripe), key=lambda e: _score(e, monitor), default=None)


def should_stop(history: Sequence[Evaluation], monitor: str, patience: int) -> bool:
    """Whether the last `patience` ripe evaluations brought nothing better; never if patience is 0."""
    ripe = [e for e in history if e.ripe]
    leader = best(ripe, monitor)
    return bool(patience) and leader is not None and len(ripe) - 1 - ripe.index(leader) >= patience


def _score(evaluation: Evaluation, monitor: str) -> float:
    if monitor not in ("roc_auc", "log_loss"):
        raise RunError(f"train.monitor={monitor!r} is not roc_auc or log_loss")
    return evaluation.roc_auc if monitor == "roc_auc" else -evaluation.log_loss
