"""Scores in a run: what is judged by what, and candidates that were screened out."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_data import METRICS, SCORES, describe_run
from rich.console import Console
from scipy.stats import kendalltau, spearmanr

from raynas.analysis import equal_cost, rung_counts, selection
from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis.proxies import proxies, screenings
from raynas.cli.run_views import show_status
from raynas.reports import render, summary
from raynas.reports.search_figures import shown_curves
from raynas.store import RunFolder

BY_SCORE = [{"metric": "naswot", "direction": "max"}]


def _text(html: str) -> str:
    words_: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words_.append  # type: ignore[method-assign]
    parser.feed(html[html.index("<main>") :])
    return " ".join(" ".join(words_).split())


def _screen(rows, kept=2, out=3):
    """``out`` candidates that were left out, then ``kept`` that were trained to step 2."""
    for k in range(out):
        rows.add(k, 0, "STOPPED", naswot=1.0 + k, seconds=0.5, message="screened: naswot")
    for k in range(out, out + kept):
        rows.add(k, 0, "RUNNING", naswot=1.0 + k, seconds=0.5)
        rows.add(k, 1, "RUNNING", val_accuracy=50.0 + k)
        rows.add(k, 2, "COMPLETE", val_accuracy=60.0 + k)
    return rows


# -- rows of step 0 ----------------------------------------------------------------------------


def test_a_screened_candidate_is_no_training(rows, description):
    _screen(rows)
    rows.add(5, 1, "STOPPED", val_accuracy=3.0)
    rows.add(6, None, "INFEASIBLE", seconds=0.0)
    rows.add(7, 0, "RUNNING", naswot=2.0).add(7, None, "INFEASIBLE", message="out of memory")
    run = st.load(rows.table(), description)
    assert np.flatnonzero(run.screened_out()).tolist() == [0, 1, 2]
    assert np.flatnonzero(run.screened()).tolist() == [0, 1, 2, 3, 4, 7]
    (found,) = summary(rows.table(), description).methods
    counts = (found.trials, found.screened, found.rejected, found.started, found.evaluated)
    assert counts == (8, 3, 1, 5, 4)
    assert found.states == {
        "RUNNING": 0, "COMPLETE": 2, "STOPPED": 1, "INFEASIBLE": 2, "FAILED": 0,
    }  # fmt: skip
    assert shown_curves(run, "tpe")[0].tolist() == [3, 4, 5]
    counts = [(r.step, r.reached, r.stopped, r.promoted) for r in rung_counts.rungs(run, "tpe")]
    assert counts == [(1, 3, 1, 2)]


def test_what_failed_in_scoring_or_broke_a_bound_by_its_scores_was_screened_out(rows, description):
    _screen(rows)
    rows.add(5, None, "FAILED", message="screening: a crash")
    rows.add(6, 0, "INFEASIBLE", naswot=2.0, message="breaks latency <= 1")
    rows.add(7, 0, "RUNNING", naswot=2.0).add(7, None, "FAILED", message="a crash in training")
    rows.add(8, None, "FAILED", arm="random", message="a crash in training")
    run = st.load(rows.table(), description)
    assert np.flatnonzero(run.screened_out()).tolist() == [0, 1, 2, 5, 6]
    main, other = summary(rows.table(), description).methods
    assert (main.screened, main.rejected, main.evaluated, other.evaluated) == (5, 0, 3, 1)
    (found,) = screenings(run)
    assert (found.candidates, found.out, found.kept) == (7, 4, 3)


def test_scoring_costs_worker_time_but_is_no_point_of_the_curve(rows, description):
    run = st.load(_screen(rows).table(), description)
    trace = equal_cost.trace(run, "tpe")
    assert trace.cost.tolist() == [4.0, 6.5]
    assert trace.value.tolist() == [63.0, 64.0]
    assert trace.total == 6.5


def test_without_worker_time_scores_cost_nothing(rows, description):
    for row in _screen(rows).rows:
        row["seconds"] = 0.0 if row["step"] else 0.5
    run = st.load(rows.table(), description)
    trace = equal_cost.trace(run, "tpe")
    assert equal_cost.counts_steps(run)
    assert (trace.cost.tolist(), trace.total) == ([2.0, 4.0], 4.0)


def test_only_scores_so_far_is_no_result(rows, description, info):
    _screen(rows, kept=0)
    rows.add(3, 0, "RUNNING", naswot=9.0)
    assert selection.best(st.load(rows.table(), description)) is None
    html, pictures = render(rows.table(), info())
    assert "No trial has a result yet. So far: 1 running, 3 screened out." in _text(html)
    assert set(pictures) == {"proxy_agreement"}


def test_the_budget_counts_what_was_started(rows, info, describing):
    described = describing(budget={"trials": 3})
    assert "2 of 3 trials" in _text(render(_screen(rows).table(), info(described))[0])


def test_screening_is_told_with_what_it_cost(rows, description):
    (found,) = screenings(st.load(_screen(rows).table(), description))
    assert (found.method, found.candidates, found.out, found.kept) == ("tpe", 5, 3, 2)
    assert (found.scoring, found.training) == (2.5, 4.0)


# -- what is judged by what --------------------------------------------------------------------


def test_proxies_are_judged_by_all_that_was_scored_and_trained(make_screened, description):
    table = make_screened()
    run = st.load(table, description)
    found = proxies(run)
    assert found is not None
    assert found.names == ("naswot", "zen_score", "grasp")
    assert found.trained == len(found.index) == sum(found.methods(run).values())
    assert set(found.methods(run)) == {"random"}  # those of tpe follow from results
    scored = np.isfinite(run.trials.values["naswot"][run.complete("tpe")]).sum()
    assert 0 < found.left_out <= scored
    by_name = {q.name: q for q in found.qualities}
    assert set(by_name) == {"naswot", "zen_score", "grasp", "params", "macs"}
    truth = run.trials.values["val_accuracy"][found.index]
    whole = by_name["naswot"].whole
    assert whole.spearman.value == pytest.approx(spearmanr(found.scores["naswot"], truth).statistic)
    assert whole.kendall.value == pytest.approx(kendalltau(found.scores["naswot"], truth).statistic)
    assert by_name["grasp"].invalid == int(np.isnan(found.scores["grasp"]).sum()) > 0
    assert found.best == found.qualities[0].name == "naswot"


def test_a_score_holds_for_the_architecture_in_every_arm(rows, description):
    for k in range(5):
        rows.add(k, 0, "STOPPED", naswot=float(k), arch_id=f"a{k}")
        rows.add(10 + k, 1, "COMPLETE", arm="random", arch_id=f"a{k}", val_accuracy=50.0 + k)
    rows.add(20, 1, "COMPLETE", arm="random", arch_id="unscored", val_accuracy=99.0)
    found = proxies(st.load(rows.table(), description))
    assert found is not None
    assert found.trained == 5
    assert found.qualities[0].name == "naswot"
    assert found.qualities[0].whole.spearman.value == pytest.approx(1)


def test_lower_is_better_where_the_objective_says_so(rows, describing):
    for k in range(6):
        rows.add(k, 1, "COMPLETE", naswot=float(k), val_loss=3.0 - k / 4, params=10 - k)
    described = describing(objectives=[{"metric": "val_loss", "direction": "min"}])
    found = proxies(st.load(rows.table(), described))
    assert found is not None
    assert {q.name: round(q.whole.spearman.value) for q in found.qualities} == {
        "naswot": 1, "macs": 1, "params": -1,
    }  # fmt: skip


def test_without_scores_there_are_no_proxies(make_run, description, info):
    assert proxies(st.load(make_run(), description)) is None
    assert "Proxies" not in _text(render(make_run(), info())[0])


# -- the section -------------------------------------------------------------------------------


def test_the_section_stands_beside_size_and_says_what_is_worth_nothing(make_screened, info):
    html, pictures = render(make_screened(), info(describe_run(budget={"trials": 80})))
    text = _text(html)
    assert "tpe scored 240 candidates, kept 80 for training and screened out 160." in text
    assert "Scoring took 48 s of worker time" in text
    assert "tpe screened out 160 candidates by scores, started 80 trials" in text
    assert re.search(r"of the \d+ architectures that were scored and trained to the end", text)
    assert "naswot ranks better than the number of parameters and the multiply-adds" in text
    assert re.search(
        r"grasp ranks worse than the number of parameters "
        r"\(difference in rank correlation -0\.\d\d \[-\d\.\d\d, -0\.\d\d\]\)",
        text,
    )
    assert re.search(r"MACs \d\.\d\d \d\.\d\d to \d\.\d\d", text)
    assert re.search(r"\d+ invalid", text)
    assert {"proxy_best", "proxy_params"} <= set(pictures)
    assert "proxy_agreement" not in pictures
    assert " nan" not in text.lower()


def test_a_search_by_scores_says_that_nothing_checks_them(make_zero_shot, info, describing):
    described = describing(objectives=BY_SCORE, scheduler=None)
    html, pictures = render(make_zero_shot(), info(described))
    text = _text(html)
    assert re.search(r"The best network has a naswot score of 1\d{3}\.\d with", text)
    assert re.search(r"retrained over 2 seeds it reaches \d\d\.\d\d ± 0\.21 % test accuracy", text)
    assert "trained none, so there is nothing to check the scores against" in text
    assert "The finalists" in text
    assert "the poorest are missing" not in text
    assert "proxy_agreement" in pictures
    assert "learning_curves" not in pictures


def test_agreement_of_scores_is_over_what_both_rank(make_zero_shot, describing):
    run = st.load(make_zero_shot(), describing(objectives=BY_SCORE))
    found = proxies(run)
    assert found is not None
    assert (found.objective, found.qualities, found.best) == (None, (), None)
    table, names = found.agreement, list(found.scores)
    both = np.isfinite(found.scores["grasp"])
    expected = spearmanr(found.scores["grasp"][both], found.scores["naswot"][both]).statistic
    assert table[names.index("grasp"), names.index("naswot")] == pytest.approx(expected)
    assert np.allclose(table, table.T)


@pytest.mark.parametrize(("kept", "said"), [(0, "none of the scored"), (3, "only 3 of the scored")])
def test_too_few_trainings_judge_nothing(kept, said, rows, info):
    text = _text(render(_screen(rows, kept).table(), info())[0])
    assert said in text
    assert "at least 4 are needed" in text
    assert "ranked by" not in text


def test_a_score_that_is_the_same_for_all_says_nothing(rows, info):
    for k in range(8):
        rows.add(k, 1, "COMPLETE", naswot=7.0, zen_score=float(k), val_accuracy=60.0 + k,
                 params=5, macs=None)  # fmt: skip
    text = _text(render(rows.table(), info())[0])
    assert "naswot has the same value for all of these architectures." in text
    assert "zen_score ranks" not in text  # sizes that are equal are no comparison


def test_status_counts_them_apart(make_screened, info, tmp_path):
    described = describe_run(budget={"trials": 90})
    folder = RunFolder.create(tmp_path / "r", info(described, metrics=(*METRICS, *SCORES)), "#\n")
    pq.write_table(make_screened(), folder.results / "0001-00000001.parquet")
    out = Console(width=80, file=io.StringIO(), record=True)
    show_status(folder, out)
    text = out.export_text()
    (line,) = [s.split() for s in text.splitlines() if s.startswith("tpe 80/90")]
    assert line[2:8] == ["0", "56", "24", "0", "0", "160"]
    assert "infeasible" in text
    assert all(len(s) <= 80 for s in text.splitlines())


def test_scores_have_names_and_no_unit():
    assert words.finding("naswot", 1612.34, "score") == "a naswot score of 1612.3"
    assert words.finding("val_accuracy", 93.2, "%") == "93.20 % validation accuracy"
    assert words.named("zen_score", "score") == "zen score"
    assert words.axis("naswot", "score") == "naswot score"
