"""Analysis of a run's proxies: ranking by their scores, and effect and cost of screening.

Scores are the metrics whose unit is ``SCORE_UNIT``. They stand in a trial's row of step 0 where
a search screens its candidates, and in the only row of a trial where nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raynas.analysis import selection
from raynas.analysis import statistics as st
from raynas.analysis.intervals import rank_correlations
from raynas.analysis.ranking import BASELINES, FEWEST, RankQuality, rank_qualities
from raynas.core import Objective
from raynas.store.schema import COLUMNS

_FIXED = frozenset(column.name for column in COLUMNS)


@dataclass(frozen=True)
class ScreeningStatistics:
    """The candidates of one method that were scored before training, with the time that they took.

    Attributes:
        method: Name of the method.
        candidates: Number of candidates that were scored.
        out: Number of those that were screened out.
        scoring: Seconds of worker time of scoring.
        training: Seconds of worker time of everything else.
    """

    method: str
    candidates: int
    out: int
    scoring: float
    training: float

    @property
    def kept(self) -> int:
        """The number of candidates that were kept for training."""
        return self.candidates - self.out


def screenings(run: st.RunStatistics) -> list[ScreeningStatistics]:
    """Return the screenings of a run, the main method's first.

    Args:
        run: The loaded run.

    Returns:
        One entry for each method that screened.
    """
    found = []
    for method in run.methods:
        scored = run.screened(method)
        if scored.any():
            rows = run.searching(method)[run.rows.owner]
            seconds = run.rows.seconds
            found.append(
                ScreeningStatistics(
                    method,
                    int(scored.sum()),
                    int((scored & run.screened_out(method)).sum()),
                    float(seconds[rows & run.rows.scoring].sum()),
                    float(seconds[rows & ~run.rows.scoring].sum()),
                )
            )
    return found


@dataclass(frozen=True)
class ProxyStatistics:
    """The scores of a run's architectures, one entry each.

    Attributes:
        names: The proxies.
        objective: Objective by which they are judged; None where the search measured nothing but
            scores and costs.
        index: (n,) trials of the architectures that were scored and trained to the end, one each,
            as :func:`statistics.sample` takes them; where they are fewer than four, of all that
            were scored.
        scores: Proxy, ``params`` and ``macs`` -> (n,), NaN where invalid.
        trained: Number of architectures to judge by.
        qualities: Rank quality of each score, the highest Spearman first; empty with fewer than
            four architectures.
        left_out: Number of architectures left out because a search chose them by results.
    """

    names: tuple[str, ...]
    objective: Objective | None
    index: st.Ints
    scores: Mapping[str, st.Floats]
    trained: int
    qualities: tuple[RankQuality, ...]
    left_out: int = 0

    @property
    def best(self) -> str | None:
        """The proxy that ranks best, baselines left out.

        Returns:
            Its name; None where none can be judged.
        """
        judged = [q.name for q in self.qualities if np.isfinite(q.whole.spearman.value)]
        return next((name for name in judged if name in self.names), None)

    @property
    def agreement(self) -> st.Floats:
        """The Spearman correlations between all ``scores``, each pair where both are valid.

        Returns:
            (k, k) correlations, 1 on the diagonal.
        """
        columns = list(self.scores.values())
        table = np.eye(len(columns))
        for i, one in enumerate(columns):
            for j, other in enumerate(columns[:i]):
                both = np.isfinite(one) & np.isfinite(other)
                rho, _ = rank_correlations(one[both], other[both])
                table[i, j] = table[j, i] = rho.value
        return table

    def methods(self, run: st.RunStatistics) -> Counter[str]:
        """Count the architectures of :attr:`index` by the method that found them.

        Args:
            run: The run that they are of.

        Returns:
            Method -> number of architectures.
        """
        return Counter(run.trials.method[self.index])


def proxies(run: st.RunStatistics) -> ProxyStatistics | None:
    """Collect the scores of a run and judge them.

    Args:
        run: The loaded run.

    Returns:
        The scores and their rank qualities; None where nothing was scored.
    """
    values = run.trials.values
    names = tuple(m for m in values if run.is_score(m) and np.isfinite(values[m]).any())
    if not names:
        return None
    objective = next(
        (o for o in run.objectives if not run.is_score(o.metric) and o.metric not in _FIXED), None
    )
    scored = np.isin(run.trials.arch_id, list(_scored(run, names)))
    done, independent = np.empty(0, dtype=np.int64), True
    if objective is not None:
        done, independent = selection.sample(run, scored)
    enough = objective is not None and len(done) >= FEWEST
    index = done if enough else selection.distinct(run, np.flatnonzero(scored & run.searching()))
    scores = {name: _by_architecture(run, name, index) for name in names}
    scores |= {name: values[name][index] for name in BASELINES}
    qualities = []
    if objective is not None and enough:
        truth = values[objective.metric][index]
        qualities = rank_qualities(scores, truth, sign=objective.sign, independent=independent)
    best_first = selection.ranked(run)
    every = len(np.unique(run.trials.arch_id[best_first][scored[best_first]].astype(str)))
    left_out = every - len(done) if objective is not None else 0
    return ProxyStatistics(names, objective, index, scores, len(done), tuple(qualities), left_out)


def _scored(run: st.RunStatistics, names: tuple[str, ...]) -> set[str]:
    """Ids of the architectures that proxies looked at, with success or without."""
    any_value = np.any([np.isfinite(run.trials.values[name]) for name in names], axis=0)
    return set(run.trials.arch_id[any_value | run.screened()])


def _by_architecture(run: st.RunStatistics, name: str, index: st.Ints) -> st.Floats:
    """Return (n,) scores of the architectures; methods may share an architecture and its score."""
    values = run.trials.values[name]
    known = np.flatnonzero(np.isfinite(values))[::-1]  # reversed, so that the first trial counts
    found = dict(zip(run.trials.arch_id[known], values[known], strict=True))
    return np.array([found.get(a, np.nan) for a in run.trials.arch_id[index]], dtype=np.float64)
