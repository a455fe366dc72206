"""The page: self-contained, honest, and sensible at every moment of a run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raynas.core import UserError
from raynas.reports import render, write_report
from raynas.spaces.nasbench201.space import NASBench201
from raynas.store import RunFolder

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks nesting on the way; keeps visible text and the addresses that the page names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.stack == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.stack):
            self.words.append(data)


def test_report_is_one_file_that_names_no_other(make_run, info):
    html, pictures = render(make_run(), info(), NASBench201())
    page = Page(html)
    assert all(a.startswith("data:") for a in page.addresses)
    assert "script" not in page.tags
    assert "url(http" not in html
    assert "@import" not in html
    assert set(pictures) == {"best_so_far", "learning_curves", "trade_off_params", "trade_off_macs"}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
    assert page.tags.count("img") == 4
    assert page.tags.count("svg") >= 11


def test_result_stands_first_with_test_mean_and_spread(make_run, info):
    html, _ = render(make_run(), info())
    text = Page(html).text
    assert re.search(
        r"The best network has \d\d\.\d\d % validation accuracy with \d+ k parameters", text
    )
    assert re.search(r"over 3 seeds it reaches \d\d\.\d\d ± \d\.\d\d % test accuracy", text)
    assert "Random search at the same cost" in text
    assert "Kendall's τ" in text
    assert "raynas run experiments/cells.py --set space.channels=8" in text


def test_it_says_so_when_random_search_did_as_well(make_run, info):
    text = Page(render(make_run(lead=-8.0), info())[0]).text
    assert "Random search did better, by" in text
    assert "is no evidence for tpe" in text
    html, _ = render(make_run(lead=3.0), info())
    assert "more than random search reaches by chance" in Page(html).text


def test_without_random_search_it_says_what_is_missing(make_run, info):
    table = make_run(finals=False)
    table = table.filter(pa.array([a == "tpe" for a in table["arm"].to_pylist()]))
    assert "holds no random search at equal cost" in Page(render(table, info())[0]).text


def test_architectures_are_drawn_where_the_space_knows_them(rows, info):
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0, arch="not a cell")
    html, _ = render(rows.table(), info(), NASBench201())
    page = Page(html)
    assert "svg" not in page.tags
    assert "not a cell" in page.text


def test_what_comes_from_outside_is_escaped(rows, info):
    evil = "<script>alert(1)</script>"
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0, arch=evil, host=evil)
    rows.add(1, 1, "FAILED", message=evil)
    html, _ = render(rows.table(), info(name=evil, overrides={"a": evil}))
    assert "script" not in Page(html).tags


@pytest.mark.parametrize("fill", ["nothing", "running", "failed", "infeasible", "stopped", "one"])
def test_every_moment_of_a_run_has_a_sensible_report(fill, rows, info):
    said = {
        "nothing": "Nothing has been measured yet",
        "running": "No trial is complete yet; the best of those measured furthest (step 2)",
        "failed": "There is no result: all 3 trials failed, all of them with:",
        "infeasible": "So far: 3 infeasible.",
        "stopped": "No trial is complete yet",
        "one": "The best network has 77.00 % validation accuracy",
    }
    if fill == "running":
        rows.add(0, 1, "RUNNING", val_accuracy=9.0).add(0, 2, "RUNNING", val_accuracy=19.0)
    for k in range(3):
        if fill == "failed":
            rows.add(k, None, "FAILED", message="CUDA error")
        if fill == "infeasible":
            rows.add(k, None, "INFEASIBLE", message="params <= 10 is broken", seconds=0.0)
        if fill == "stopped":
            rows.add(k, 1, "STOPPED", val_accuracy=3.0)
    if fill == "one":
        rows.add(0, 1, "COMPLETE", val_accuracy=77.0)
    page = Page(render(rows.table(), info())[0])
    assert said[fill] in page.text
    assert "nan" not in page.text.lower()
    assert ("CUDA error" in page.text) == (fill == "failed")


def test_the_state_of_the_run_is_said(rows, info):
    rows.add(0, 1, "COMPLETE", val_accuracy=50.0)
    assert "1 of 40 trials" in Page(render(rows.table(), info())[0]).text
    rows.add(1, 1, "RUNNING", val_accuracy=50.0)
    assert "unfinished: 1 trial running" in Page(render(rows.table(), info())[0]).text


def test_arms_stand_side_by_side_at_equal_cost(rows, info):
    for k in range(4):
        rows.add(k, 1, "COMPLETE", val_accuracy=60.0 + k)
        rows.add(10 + k, 1, "COMPLETE", arm="evolution", val_accuracy=70.0 + k, seconds=2.0)
    text = Page(render(rows.table(), info())[0]).text
    assert "the same at equal cost (4.0 s)" in text
    assert "tpe 4 4 0 0 0 0 4.0 s 63.00 % 63.00 %" in text
    assert "evolution (comparison) 4 4 0 0 0 0 8.0 s 73.00 % 71.00 %" in text


def test_several_objectives_give_a_front_instead_of_one_best(make_run, info, describing):
    objectives = [
        {"metric": "val_accuracy", "direction": "max"}, {"metric": "macs", "direction": "min"},
    ]  # fmt: skip
    html, pictures = render(make_run(finals=False), info(describing(objectives=objectives)))
    text = Page(html).text
    assert "that no other beats in all 2 objectives" in text
    assert "The Pareto front" in text
    assert "objectives' box dominated" in text
    assert {"best_so_far", "objectives", "learning_curves"} <= set(pictures)


def test_costs_as_the_only_step_need_no_curves(rows, info):
    for k in range(8):
        rows.add(k, 1, "COMPLETE", val_accuracy=50.0 + k, params=None, macs=None, seconds=0.0)
    html, pictures = render(rows.table(), info())
    assert set(pictures) == {"best_so_far"}
    assert "cannot be judged" not in Page(html).text


def test_a_hundred_thousand_rows_in_one_file_of_some_megabytes(make_run, info):
    table = make_run(trials=18_500)
    assert len(table) > 100_000
    html, pictures = render(table, info(), NASBench201())
    assert len(html) < 5e6
    assert all(len(png) < 1e6 for png in pictures.values())
    assert "chosen at random are drawn" in html


@pytest.fixture
def folder(tmp_path, info, make_run):
    made = RunFolder.create(tmp_path / "runs" / "demo", info(), "# experiment\n")
    pq.write_table(make_run(), made.results / "0001-00000001.parquet")
    return made


def test_write_report_reads_only_the_store(folder):
    path = write_report(folder, NASBench201())
    assert path == folder.report
    assert "raynas resume runs/demo --trials +32" in Page(path.read_text()).text
    names = sorted(p.name for p in folder.figures.iterdir())
    assert names == [
        "best_so_far.png", "learning_curves.png", "trade_off_macs.png", "trade_off_params.png",
    ]  # fmt: skip
    assert not [p for p in folder.path.rglob("*") if p.name.startswith(".tmp")]


def test_a_report_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    folder.report.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot be written .* No space left"):
        write_report(folder)
    assert folder.report.read_text() == "old"
    assert not [p for p in folder.path.rglob("*") if p.name.startswith(".tmp")]
