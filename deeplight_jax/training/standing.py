"""Where a run stands after its evaluations so far: the best, and whether to stop.

All evaluations stand in `metrics.jsonl`; what a run needs of them to go on does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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


class Standing(NamedTuple):
    """What follows from a run's evaluations so far.

    Attributes:
      last: the newest evaluation; None before the first.
      best: the earliest of the ripe ones with the best monitored metric; None if none is ripe yet.
      since_best: ripe evaluations behind the best.
    """

    last: Evaluation | None = None
    best: Evaluation | None = None
    since_best: int = 0

    def after(self, evaluation: Evaluation, monitor: str) -> Standing:
        """The standing with one more evaluation.

        Raises:
          RunError: `monitor` is not a metric that can be monitored.
        """
        if not evaluation.ripe:
            return self._replace(last=evaluation)
        score = _score(evaluation, monitor)
        if self.best is None or score > _score(self.best, monitor):
            return Standing(evaluation, evaluation)
        return Standing(evaluation, self.best, self.since_best + 1)

    def should_stop(self, patience: int) -> bool:
        """Whether the last `patience` ripe evaluations brought nothing better; never if patience is 0."""
        return bool(patience) and self.since_best >= patience

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        last, best = (e and e._asdict() for e in (self.last, self.best))
        return {"last": last, "best": best, "since_best": self.since_best}


def read_standing(about: Mapping[str, Any], monitor: str) -> Standing:
    """The standing that a checkpoint's facts tell; older ones hold all evaluations."""
    if "standing" in about:
        last, best = (e and Evaluation(**e) for e in (about["standing"]["last"], about["standing"]["best"]))
        return Standing(last, best, about["standing"]["since_best"])
    standing = Standing()
    for evaluation in about["history"]:
        standing = standing.after(Evaluation(**evaluation), monitor)
    return standing


def _score(evaluation: Evaluation, monitor: str) -> float:
    if monitor not in ("roc_auc", "log_loss"):
        raise RunError(f"train.monitor={monitor!r} is not roc_auc or log_loss")
    return evaluation.roc_auc if monitor == "roc_auc" else -evaluation.log_loss
