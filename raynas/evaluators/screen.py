"""Screening: a cheap evaluator looks at every proposal, the dear one only at the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raynas.core import Ensemble, Metric, Ranking, UserError, one_of
from raynas.core.fields import check_fields
from raynas.core.ranks import Table, share_of
from raynas.evaluators.base import Evaluator


@dataclass(frozen=True)
class Screen:
    """Proposals that keep the bounds are scored in batches; a share of them goes on.

    ``evaluator``: gives the scores, in one measurement (``ZeroShot``, or any other that is
    cheap). ``keep``: share that goes on to the search's own evaluator, at least one of a batch.
    ``batch``: proposals scored together. ``within``: the share is of each ``batch``, or of all
    scored so far in the search (``run``), a quantile that is learned on the way and may let a
    whole batch fall. ``by``: what ranks them, an ``Ensemble`` or a ``Cascade``; None takes the
    ranks by all metrics together.

    With ``keep=1`` nothing is held back but what breaks a bound on a metric that only ``evaluator``
    gives, as ``Screen(MeasuredLatency(), keep=1.0)`` for bounds on ``latency_ms``.

    Those that fall are stored with their scores and told to the sampler as stopped, and the
    budget counts only those that go on. A candidate whose scoring fails has failed; what breaks
    a bound on a metric that only ``evaluator`` gives is infeasible, and takes nobody's place.
    Raises: UserError for values that make no sense.
    """

    evaluator: Evaluator
    keep: float = 0.25
    batch: int = 16
    within: Literal["batch", "run"] = "batch"
    by: Ranking | None = None

    def __post_init__(self) -> None:
        check_fields(self, unchecked=("evaluator",))
        if not isinstance(self.evaluator, Evaluator):
            raise UserError(
                f"Screen({self.evaluator!r})", allowed="an evaluator, as ZeroShot(proxies=...)"
            )
        if not 0 < self.keep <= 1:
            raise UserError(f"screen.keep={self.keep}", allowed="above 0, up to 1")
        if self.batch < 1:
            raise UserError(f"screen.batch={self.batch}", allowed=">= 1")
        if self.evaluator.max_step != 1:
            raise UserError(
                f"screening by {self.evaluator.name}, which takes {self.evaluator.max_step} steps",
                allowed="an evaluator that gives one measurement",
            )
        if self.by is None and not self.names:
            raise UserError(
                f"screening by {self.evaluator.name}, which measures nothing",
                cure='say what ranks: by=Ensemble(("params",))',
            )
        known = {*self.names, "params", "macs"}
        for part in self.by.parts if self.by else ():
            if part not in known:
                raise one_of("score in screen.by:", part, sorted(known))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What screening adds to the columns of the store."""
        return self.evaluator.metrics

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self.metrics)

    @property
    def ranking(self) -> Ranking:
        """What ranks proposals, higher is better."""
        if self.by is not None:
            return self.by
        signs = tuple(1.0 if metric.direction == "max" else -1.0 for metric in self.metrics)
        return Ensemble(self.names, signs)

    def kept(self, table: Table, earlier: int) -> list[int]:
        """Which rows of ``table`` go on, best first, counted from ``earlier``.

        The first ``earlier`` rows are proposals scored before; they count when ``within`` is
        "run". Equal scores: the earlier proposal goes first.
        """
        count = len(np.asarray(next(iter(table.values()))))
        first = earlier if self.within == "batch" else 0
        some = {name: np.asarray(column)[first:] for name, column in table.items()}
        order = np.argsort(-self.ranking(some), kind="stable")
        limit = max(share_of(count - first, self.keep, up=True), 1)
        places = first + order[:limit] - earlier
        return [int(place) for place in places if place >= 0]
