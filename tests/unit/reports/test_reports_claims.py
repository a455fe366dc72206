"""Each sentence says something in every case, and no more than the numbers show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from report_data import Rows, describe_run

from raynas.analysis import proxies as px
from raynas.analysis import rank_correlation
from raynas.analysis import statistics as st
from raynas.analysis.ranking import rank_qualities
from raynas.reports.ranking_sentences import proxy_sentences
from raynas.reports.sentences import size_sentence


def _said(count: int = 40, *, truth: Any = None, arm: str = "random", **columns: Any) -> list[str]:
    """The sentences on proxies of a run whose k-th trial has the k-th entries of the columns."""
    rows = Rows()
    accuracy = np.arange(count) * 1.0 if truth is None else truth
    for k in range(count):
        row = {name: values[k] for name, values in columns.items()}
        rows.add(k, 1, "COMPLETE", val_accuracy=float(accuracy[k]), arm=arm, **row)
    found = px.proxies(st.load(rows.table(), describe_run()))
    assert found is not None
    return proxy_sentences(found)


def _noisy(seed: int, noise: float, count: int = 40) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(v) for v in np.arange(count) + noise * rng.normal(size=count)]


def _whole(values: list[float]) -> list[int]:
    return [int(1e6 + 1e3 * v) for v in values]


def test_a_constant_baseline_silences_nothing() -> None:
    same = [1000] * 40
    said = _said(naswot=_noisy(0, 8.0), params=same, macs=_whole(_noisy(1, 60.0)))
    assert said[0] == (
        "naswot ranks better than the number of parameters and the multiply-adds, beyond chance."
    )
    assert said[1] == "The number of parameters is the same for all of them and so ranks nothing."
    both = _said(naswot=_noisy(0, 300.0), params=same, macs=same)
    assert both[0].startswith("naswot is not shown to rank better than the number of parameters (")
    assert both[1] == (
        "The number of parameters and the multiply-adds are the same for all of them and so rank "
        "nothing."
    )


def test_sizes_that_are_not_known_silence_nothing() -> None:
    none = [None] * 40
    assert _said(naswot=_noisy(0, 8.0), params=none, macs=none) == [
        "naswot is not compared with the size of the networks, which is not known."
    ]
    one = _said(naswot=_noisy(0, 8.0), params=none, macs=_whole(_noisy(1, 60.0)))
    assert one == ["naswot ranks better than the multiply-adds, beyond chance."]


def test_results_that_do_not_differ_judge_no_score() -> None:
    said = _said(truth=np.full(40, 90.0), naswot=_noisy(0, 8.0), zen_score=[1.0] * 40)
    assert said == [
        "naswot cannot be judged: what was measured does not differ.",
        "zen_score has the same value for all of these architectures.",
    ]


def test_few_architectures_compare_nothing() -> None:
    said = _said(8, naswot=_noisy(0, 1.0, 8), zen_score=_noisy(1, 9.0, 8))
    assert said == [
        "naswot and zen_score are not compared with size: that needs 12 different "
        "architectures drawn at random."
    ]


def test_a_score_far_behind_is_called_worse() -> None:
    size = _whole(_noisy(2, 2.0))
    (said,) = _said(naswot=_noisy(3, 300.0), params=size, macs=size)
    assert said.startswith("naswot ranks worse than the number of parameters (difference in rank")
    assert said.endswith("beyond chance.")


def test_no_difference_is_never_claimed() -> None:
    size = _whole(_noisy(2, 20.0))
    (said,) = _said(naswot=_noisy(3, 20.0), params=size, macs=size)
    assert said.startswith("naswot is not shown to rank better than the number of parameters (")


def test_one_lead_among_many_is_weighed_by_their_number() -> None:
    """A lead that would count alone does not among fourteen."""
    rng = np.random.default_rng(5)
    truth = np.arange(40.0)
    size = truth + 30 * rng.normal(size=40)
    lead = truth + 15 * rng.normal(size=40)
    (alone,) = [q for q in rank_qualities({"p": lead, "params": size}, truth) if q.name == "p"]
    others = {f"q{k}": rng.normal(size=40) for k in range(13)}
    (among,) = [
        q for q in rank_qualities({"p": lead, **others, "params": size}, truth) if q.name == "p"
    ]
    assert 0 < alone.chance_ahead < 0.025
    assert alone.beats_all
    assert among.chance_ahead == pytest.approx(14 * alone.chance_ahead)
    assert among.ahead
    assert not among.beats_all


def test_a_lead_that_its_company_may_explain_is_told() -> None:
    rng = np.random.default_rng(5)
    truth = np.arange(40.0)
    size = _whole(list(truth + 30 * rng.normal(size=40)))
    lead = [float(v) for v in truth + 15 * rng.normal(size=40)]
    useless = {name: [float(v) for v in rng.normal(size=40)] for name in ("zen_score", "grasp")}
    (alone,) = _said(naswot=lead, params=size, macs=size)
    assert alone.startswith("naswot ranks better")
    said = _said(naswot=lead, **useless, params=size, macs=size)
    assert said[0].startswith("naswot is ahead of the number of parameters (difference in rank")
    assert said[0].endswith("but among 3 scores one may be so by chance.")


@pytest.mark.parametrize(
    ("noise", "said"),
    [(1.0, "size explains most of the order"), (10.0, "larger networks tend to be better"),
     (900.0, "no relation is shown")],
)  # fmt: skip
def test_size_is_said_to_explain_what_the_interval_shows(noise: float, said: str) -> None:
    def sentence(count: int, sign: int) -> str:
        rows = Rows()
        for k, size in enumerate(_noisy(5, noise, count)):
            params = int(1e6 + sign * 1e3 * size)
            rows.add(k, 1, "COMPLETE", val_accuracy=float(k), params=params, arm="random")
        return size_sentence(st.load(rows.table(), describe_run()))

    assert said in sentence(40, 1)
    assert "too few to judge" in sentence(11, 1)
    if noise < 900:
        assert "larger networks tend to be worse" in sentence(40, -1)


def test_architectures_that_a_search_bred_show_nothing_of_others() -> None:
    size = _whole(_noisy(1, 60.0))
    said = _said(naswot=_noisy(0, 8.0), params=size, macs=size, arm="evolution")
    assert said == [
        "naswot is not compared with size: that needs 12 different architectures drawn at random."
    ]
    rows = Rows()
    for k in range(40):
        rows.add(k, 1, "COMPLETE", val_accuracy=float(k), params=1000 + k, arm="evolution")
        rows.add(k + 40, 1, "COMPLETE", val_accuracy=float(k), params=1000 - k % 7, arm="random")
    run = st.load(rows.table(), describe_run())
    found = rank_correlation.size_ranking(run)
    assert found is not None
    assert (found.n, found.largest) == (40, 39)  # judged by the random arm, the largest is of all
    assert found.rank is not None
    assert found.rank.low < 0 < found.rank.high
    alone = st.load(
        rows.table().filter(np.array(rows.table()["arm"]) == "evolution"), describe_run()
    )
    bred = rank_correlation.size_ranking(alone)
    assert bred is not None
    assert bred.rank is not None
    assert (bred.rank.tau, np.isnan(bred.rank.low)) == (1.0, True)
    assert "a search chose them, so they show no more" in size_sentence(alone)
