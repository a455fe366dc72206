"""This module screens proposals: a cheap evaluator scores all, an expensive one only the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raynas.core import Ensemble, Metric, Ranking, UserError, unknown_option
from raynas.core.fields import check_fields
from raynas.core.ranks import Table, share_of
from raynas.evaluators.base import Evaluator


@dataclass(frozen=True)
class Screen:
    """A filter that scores proposals in batches and passes a share of them on.

    Proposals that keep the bounds are scored. With ``keep=1`` only those are screened out that
    break a bound on a metric which ``evaluator`` alone measures, as in
    ``Screen(MeasuredLatency(), keep=1.0)`` for bounds on ``latency_ms``.

    Proposals that are screened out are stored with their scores and told to the sampler as
    stopped; the budget counts only those that go on. A candidate whose scoring fails is FAILED.
    One that breaks a bound on a metric which ``evaluator`` alone measures is INFEASIBLE, and
    does not take the place of another.

    Attributes:
        evaluator: Measures the scores, in one measurement: ``ZeroShot``, or another cheap one.
        keep: Share above 0 and up to 1 that goes on to the search's own evaluator, at least one
            of a batch.
        batch: Number of proposals scored together.
        within: The share is of each "batch", or of all proposals scored so far in the search
            ("run"). The latter is a quantile that is learned on the way; a whole batch may be
            screened out then.
        by: An ``Ensemble`` or a ``Cascade`` that ranks proposals; None takes the ranks by all
            metrics together.

    Raises:
        UserError: A setting is outside its range, the evaluator takes more than one step, or
            ``by`` names an unknown score.
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
                f"Screen({self.evaluator!r})", expected="an evaluator, as ZeroShot(proxies=...)"
            )
        if not 0 < self.keep <= 1:
            raise UserError(f"screen.keep={self.keep}", expected="above 0, up to 1")
        if self.batch < 1:
            raise UserError(f"screen.batch={self.batch}", expected=">= 1")
        if self.evaluator.max_step != 1:
            raise UserError(
                f"screening by {self.evaluator.name}, which takes {self.evaluator.max_step} steps",
                expected="an evaluator that gives one measurement",
            )
        if self.by is None and not self.names:
            raise UserError(
                f"screening by {self.evaluator.name}, which has no metrics to rank by",
                hint='name the score that ranks: by=Ensemble(("params",))',
            )
        known = {*self.names, "params", "macs"}
        for part in self.by.parts if self.by else ():
            if part not in known:
                raise unknown_option("score in screen.by:", part, sorted(known))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that screening adds to the columns of the store.

        Returns:
            The metrics of its evaluator.
        """
        return self.evaluator.metrics

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def ranking(self) -> Ranking:
        """The ranking of proposals, higher is better.

        Returns:
            ``by``, or the ranks by all metrics together, each in its direction.
        """
        if self.by is not None:
            return self.by
        signs = tuple(1.0 if metric.direction == "max" else -1.0 for metric in self.metrics)
        return Ensemble(self.names, signs)

    def kept(self, table: Table, earlier: int) -> list[int]:
        """Choose the proposals that go on.

        Args:
            table: Score name -> (n,) column, one row per proposal, in the order of scoring.
            earlier: Number of first rows that were scored before; they count when ``within`` is
                "run".

        Returns:
            Indices of the chosen rows, best first, counted from ``earlier``. Of equal scores the
            earlier proposal is first.
        """
        count = len(np.asarray(next(iter(table.values()))))
        first = earlier if self.within == "batch" else 0
        some = {name: np.asarray(column)[first:] for name, column in table.items()}
        order = np.argsort(-self.ranking(some), kind="stable")
        limit = max(share_of(count - first, self.keep, up=True), 1)
        places = first + order[:limit] - earlier
        return [int(place) for place in places if place >= 0]
