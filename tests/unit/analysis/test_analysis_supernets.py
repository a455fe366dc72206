"""Inherited weights in a report: what training them gave, what their ranking is worth, and what
they are worth as a start."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from report_data import METRICS, Rows, describe_run, info_of
from rich.console import Console
from scipy.stats import kendalltau

from raynas.analysis import rung_counts, selection
from raynas.analysis import statistics as st
from raynas.analysis import supernets as sn
from raynas.cli.run_views import show_status
from raynas.core import Metric
from raynas.reports import render, summary
from raynas.reports.supernet_sentences import trained_sentence, truth_verdict, tuned_sentence
from raynas.store import RunFolder, schema_for
from raynas.store.files import write_whole

SUBNETS = [Metric(f"{name}_accuracy", "%", "max") for name in ("smallest", "largest", "random")]
LATENCY = Metric("latency_ms", "ms", "min")


class Inherits(Rows):
    """Trial 0 is the training of three epochs; then the search, the truth, the finalists."""

    def __init__(self, n: int = 40, noise: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.truth = 80 + 10 * rng.random(n)
        self.params = rng.permutation(n) * 100 + 1000
        self.value = self.truth - 20 + noise * rng.normal(size=n)

    def trained(self, state: str = "COMPLETE", epochs: int = 3) -> Inherits:
        for epoch in range(1, epochs + 1):
            self.add(
                0, epoch, "RUNNING" if epoch < epochs else state, stage="supernet",
                arm="train_supernet", seconds=100.0, params=None, macs=None,
                train_accuracy=50.0, smallest_accuracy=30.0 + epoch, largest_accuracy=40.0 + epoch,
                random_accuracy=35.0 + epoch,
            )  # fmt: skip
        return self

    def searched(self, **more: object) -> Inherits:
        for k, value in enumerate(self.value):
            self.add(1 + k, 1, "COMPLETE", val_accuracy=value, arch_id=f"id{k}", arch=f"arch-{k}",
                     params=int(self.params[k]), macs=int(7 * self.params[k]), seconds=0.1,
                     weights="cafe", arm="random", **more)  # fmt: skip
        return self

    def judged(self, count: int, seeds: int = 1) -> Inherits:
        for k in range(count):
            for s in range(seeds):
                self.add(1000 + 10 * k + s, 9, "COMPLETE", stage="truth", arch_id=f"id{k}",
                         arch=f"arch-{k}", val_accuracy=self.truth[k] + s, seed=s)  # fmt: skip
        return self

    def finals(self, stage: str, gain: float, seconds: float) -> Inherits:
        first = {"final": 5000, "tuned": 6000}[stage]
        for k in np.argsort(-self.value)[:2]:
            for s in range(2):
                self.add(first + 10 * int(k) + s, 9, "COMPLETE", stage=stage, arch_id=f"id{k}",
                         arch=f"arch-{k}", test_accuracy=80.0 + gain + s, seed=s,
                         seconds=seconds)  # fmt: skip
        return self

    def table(self) -> pa.Table:
        schema = schema_for((*METRICS, *SUBNETS, LATENCY))
        return pa.Table.from_pylist(self.rows, schema=schema)

    def run(self) -> st.RunStatistics:
        return st.load(self.table(), describe_run())


def text_of(html: str) -> str:
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(html[html.index("<main>") :])
    return " ".join(" ".join(words).split())


def test_the_training_is_told_beside_what_the_search_cost() -> None:
    run = Inherits().trained().searched().run()
    found = sn.training(run)
    assert found is not None
    assert (found.trainer, found.step, found.seconds) == ("train_supernet", 3, 300.0)
    assert (found.evaluated, found.searching) == (40, pytest.approx(4.0))
    assert set(found.curves) == {m.name for m in SUBNETS}  # the training's own accuracy is no curve
    assert found.curves["smallest_accuracy"].tolist() == [[1, 31], [2, 32], [3, 33]]
    assert "1.3 % of what the training took" in trained_sentence(found)


def test_a_training_does_not_count_as_search() -> None:
    rows = Inherits().trained().searched()
    found = summary(rows.table(), describe_run())
    assert [a.trials for a in found.methods] == [40]
    assert found.methods[0].seconds == pytest.approx(4.0)
    assert found.worker_seconds == pytest.approx(304.0)
    assert rung_counts.last_step(rows.run()) == 1


@pytest.mark.parametrize(
    ("state", "told"), [("RUNNING", "is running: 2 epochs"), ("FAILED", "failed after 2 epochs")]
)
def test_before_the_search_there_is_the_training(state: str, told: str) -> None:
    rows = Inherits().trained(state, epochs=2)
    html, pictures = render(rows.table(), info_of())
    assert f"The search has not begun yet. train_supernet {told}" in text_of(html)
    assert set(pictures) == {"supernet_curves"}


def test_truth_judges_the_search_beside_size() -> None:
    rows = Inherits().trained().searched().judged(30, seeds=2)
    run = rows.run()
    found = sn.judged(run)
    assert found is not None
    assert len(found.index) == 30
    shown = {run.trials.arch_id[i]: t for i, t in zip(found.index, found.truth, strict=True)}
    assert shown == {f"id{k}": pytest.approx(rows.truth[k] + 0.5) for k in range(30)}
    search = found.search
    assert search is not None
    tau = kendalltau(rows.value[:30], rows.truth[:30]).statistic
    assert search.whole.kendall.value == pytest.approx(tau)
    by_name = {q.name: q for q in found.qualities}
    tau = kendalltau(rows.params[:30], rows.truth[:30]).statistic
    assert by_name["params"].whole.kendall.value == pytest.approx(tau)
    verdict = truth_verdict(found, "Inherited weights")
    assert verdict.startswith("Inherited weights rank better than the number of parameters")
    assert verdict.count("difference in rank correlation") == 1


def test_weights_that_rank_no_better_than_size_are_told_so() -> None:
    rows = Inherits(noise=0.0)
    rows.params = np.argsort(np.argsort(rows.truth)) * 100 + 1000  # size says it all
    rows.value = np.random.default_rng(5).permutation(rows.value)
    found = sn.judged(rows.trained().searched().judged(30).run())
    assert found is not None
    verdict = truth_verdict(found, "Inherited weights")
    assert verdict.startswith("Inherited weights rank worse than the number of parameters (")
    assert "the multiply-adds" in verdict


def test_a_lower_objective_is_ranked_by_its_sign() -> None:
    rows = Inherits(noise=0.1).trained().searched().judged(20)
    for row in rows.rows:
        for name in ("val_accuracy",):
            if name in row:
                row["val_loss"] = 100 - row[name]
    described = describe_run(objectives=[{"metric": "val_loss", "direction": "min"}])
    found = sn.judged(st.load(rows.table(), described))
    assert found is not None
    assert found.search is not None
    assert found.search.whole.kendall.value > 0.8
    assert found.search.best[1] == pytest.approx(min(found.truth), abs=1.0)


def test_finalists_from_scratch_and_from_inherited_weights() -> None:
    rows = Inherits().trained().searched().finals("final", 0.0, 8.0).finals("tuned", 1.5, 2.0)
    run = rows.run()
    found = sn.twice(run)
    assert [f.arch for f in found] == [f"arch-{k}" for k in np.argsort(-rows.value)[:2]]
    assert [f.gain for f in found] == [pytest.approx(1.5)] * 2
    assert (found[0].scratch_seconds, found[0].tuned_seconds) == (8.0, 2.0)
    assert tuned_sentence(run, found) == (
        "Over 2 finalists a start from inherited weights ends 1.50 points better than one from "
        "scratch (95 % interval +0.11 to +2.89), with 25 % of its worker time; it is ahead for "
        "2 of 2."
    )
    assert selection.finals(run).keys() == selection.finals(run, "tuned").keys()
    worse = Inherits().trained().searched().finals("final", 0.0, 8.0).finals("tuned", -2.0, 2.0)
    assert "2.00 points worse" in tuned_sentence(worse.run(), sn.twice(worse.run()))
    assert sn.twice(Inherits().searched().finals("final", 0.0, 1.0).run()) == []


def test_the_archive_holds_what_nothing_beats() -> None:
    rows = Inherits(200).trained().searched()
    run = rows.run()
    index, total = sn.archive(run, most=1000)
    chosen = {run.trials.arch_id[i] for i in index}
    beaten = {
        f"id{k}" for k in range(200)
        if any(rows.value[j] > rows.value[k] and rows.params[j] < rows.params[k]
               for j in range(200))
    }  # fmt: skip
    assert chosen == {f"id{k}" for k in range(200)} - beaten
    assert total == len(chosen)
    assert list(run.trials.values["params"][index]) == sorted(run.trials.values["params"][index])
    few, same = sn.archive(run, most=3)
    assert (len(few), same) == (3, total)
    assert {few[0], few[-1]} == {index[0], index[-1]}


def test_latency_is_a_cost_where_it_was_measured() -> None:
    assert sn.costs_of(Inherits().trained().searched().run()) == ("params", "macs")
    rows = Inherits().trained().searched(latency_ms=2.5)
    assert sn.costs_of(rows.run()) == ("params", "macs", "latency_ms")
    html, pictures = render(rows.table(), info_of())
    assert "trade_off_latency_ms" in pictures
    assert "2.5 ms" in text_of(html)


def test_the_report_of_a_whole_run(tmp_path) -> None:
    rows = Inherits(60).trained().searched().judged(45)
    rows.finals("final", 0.0, 8.0).finals("tuned", 1.5, 2.0)
    html, pictures = render(rows.table(), info_of(), path=tmp_path / "runs" / "cells")
    text = text_of(html)
    assert {"supernet_curves", "inherited_truth", "trade_off_params"} <= set(pictures)
    for told in (
        "train_supernet trained the supernet once: 3 epochs",
        "45 architectures from all over the search's ranking were trained from scratch",
        "inherited weights", "Networks for every budget",
        "raynas specialize runs/cells --max params=",
        "a start from inherited weights ends 1.50 points better",
        "with the training of the supernet, comparisons and finals",
    ):  # fmt: skip
        assert told in text, told
    plain, _ = render(Inherits().searched().table(), info_of())
    assert "One search" not in text_of(plain)
    assert "trained the supernet" not in text_of(plain)


def test_status_shows_the_stages(tmp_path) -> None:
    rows = Inherits().trained().searched().judged(5).finals("final", 0, 1).finals("tuned", 0, 1)
    out = Console(file=io.StringIO(), width=200)
    folder = RunFolder.create(tmp_path / "run", info_of(), "")
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows.table(), sink)
    from raynas.store.fragments import name_for

    write_whole(folder.results / name_for(1, 1), memoryview(sink.getvalue()))
    show_status(folder, out)
    printed = out.file.getvalue()
    assert "train_supernet trained the supernet once" in printed
    assert "ranking check: 5 of 5 trained" in printed
    assert "fine-tuned finalists: 4 of 4 trained" in printed
