"""The live view: never wider than the terminal, and honest about the time left."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from searches import make_search
from toys import Curves, ToyData, ToySpace

from raynas.core import Objective, TrialState
from raynas.pipeline.live import LiveView, clock, headline, remaining, render, shorten
from raynas.runners.local import LocalRunner
from raynas.samplers.random import Random
from raynas.schedulers.asha import ASHA
from raynas.schedulers.base import Rung
from raynas.search.context import EvaluationContext, SearchLimits, SearchStatus
from raynas.search.controller import SearchController

pytestmark = pytest.mark.usefixtures("undrawn")

ARCH = "|nor_conv_1x1~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|none~2|"


def status(**parts: Any) -> SearchStatus:
    usual: dict[str, Any] = {
        "stage": "search", "arm": "tpe", "counts": {"COMPLETE": 3, "STOPPED": 5, "RUNNING": 2},
        "target": 32, "running": ((8, ARCH, 2, 91.5), (9, ARCH, 0, None)),
        "best": (4, ARCH, 97.25), "objective": Objective(),
        "rungs": (Rung(1, 8, 4), Rung(3, 4, 3)), "rejected": 0, "duplicates": 0,
        "screened_out": 0,
        "seconds": 120.0, "max_seconds": None, "elapsed": 60.0, "max_step": 9,
    }  # fmt: skip
    return SearchStatus(**{**usual, **parts})


def shown(what: SearchStatus, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width)
    out.print(render(what, width))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


counts = st.dictionaries(st.sampled_from([s.value for s in TrialState]), st.integers(1, 10**6))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([40, 60, 80, 200]),
    counts,
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.one_of(st.none(), st.floats(1, 1e7)),
    st.floats(0, 1e7),
    st.integers(0, 10**6),
)
def test_every_line_fits_and_none_is_wrapped(
    width: int,
    counts: dict[str, int],
    running: int,
    target: int | None,
    seconds: float | None,
    elapsed: float,
    known: int,
) -> None:
    live = tuple((10**5 + i, ARCH, i, None if i % 2 else 12.5) for i in range(running))
    what = status(
        counts=counts, running=live, target=target, max_seconds=seconds, elapsed=elapsed,
        duplicates=known, arm="evolution-with-a-long-name", max_step=200,
        rungs=tuple(Rung(3**i, 10**5, 10**4) for i in range(6)),
    )  # fmt: skip
    found = shown(what, width)
    assert all(len(line) <= width for line in found)
    assert len(found) == 5 + min(running, 6) + (running > 6)


def test_what_is_to_be_seen() -> None:
    found = shown(status(rejected=4, duplicates=7), 120)
    assert found[0] == "search · tpe   1:00 gone, about 3:00 left"
    assert found[1].endswith("8/32 trials")
    assert found[2] == "3 complete  5 stopped  2 running  (4 infeasible, 7 duplicates)"
    assert found[3].startswith("best val_accuracy 97.25  trial 4  |nor_conv_1x1~0|")
    assert found[4] == "rungs (step: reached → promoted)  1: 8 → 4  3: 4 → 3"
    assert found[5].startswith("      8  step   2/9    91.50  |nor_conv")
    assert found[6].startswith("      9  step   0/9        -  |nor_conv")


def test_screened_candidates_stand_aside_and_fit_80_columns() -> None:
    what = status(rejected=1204, screened_out=2301, duplicates=7)
    assert shown(what, 80)[2] == (
        "3 complete  5 stopped  2 running  (1204 infeasible, 2301 screened out, 7 duplic…"
    )
    assert shown(status(screened_out=36), 80)[2].endswith("2 running  (36 screened out)")
    assert headline(status(screened_out=36)) == (
        "search · tpe 25%: 3 complete, 2 running, 5 stopped, 36 screened out; "
        "best val_accuracy 97.25; 1:00 gone, about 3:00 left"
    )
    scoring = status(counts={}, running=(), best=None, screened_out=16)
    assert headline(scoring) == "search · tpe 0%: 16 screened out; 1:00 gone"
    assert shown(scoring, 80)[2] == "scoring candidates  (16 screened out)"


def test_before_the_first_worker_answers() -> None:
    start = status(counts={}, running=(), best=None, rungs=(Rung(1, 0, 0),), elapsed=2.0)
    found = shown(start, 80)
    assert found[0] == "search · tpe   0:02 gone"
    assert found[2:] == ["starting workers"]
    assert headline(start) == "search · tpe 0%: starting workers; 0:02 gone"
    booting = replace(start, counts={"RUNNING": 1}, waits_for="waiting for a machine")
    assert headline(booting) == "search · tpe 0%: 1 running; waiting for a machine; 0:02 gone"
    assert shown(booting, 80)[0].endswith("waiting for a machine")


def test_worker_time_is_the_goal_of_an_arm_at_equal_cost() -> None:
    found = shown(status(target=None, max_seconds=480.0), 80)
    assert found[1].endswith("120/480 s of worker time")
    assert found[0].endswith("about 3:00 left")


def test_the_time_left_is_that_of_the_pace_of_this_session() -> None:
    assert remaining(status(counts={})) is None  # nothing yet to tell a pace from
    assert remaining(status()) == pytest.approx(180)
    assert remaining(status(), begun=0.125) == pytest.approx(360)  # half came from before
    assert remaining(status(), begun=0.25) is None
    assert remaining(status(counts={"COMPLETE": 32})) == 0
    assert remaining(status(target=None)) is None  # a budget of hours alone


def test_the_last_line_says_all() -> None:
    done = status(counts={"STOPPED": 24, "COMPLETE": 8})
    line = "search · tpe 100%: 8 complete, 24 stopped; best val_accuracy 97.25; 1:00 gone"
    assert headline(done) == line
    assert headline(status()).endswith("1:00 gone, about 3:00 left")


def test_clock_and_shorten() -> None:
    assert [clock(s) for s in (-3, 0, 75.9, 3600, 360000)] == [
        "0:00", "0:00", "1:15", "1:00:00", "100:00:00",
    ]  # fmt: skip
    assert [shorten("abcdef", n) for n in (6, 5)] == ["abcdef", "abcd…"]


def work(seconds: float) -> SearchController:
    payload = EvaluationContext(ToySpace(), Curves(seconds=seconds), ToyData().search_view(0))
    return make_search(
        payload, Rows(), sampler=Random(), fallback=Random(), scheduler=ASHA(1, 2),
        limits=SearchLimits(trials=5), run="live", stage="search", arm="random",
        objectives=(Objective(),), seed=0,
    )  # fmt: skip


class Rows:
    def append(self, rows: object) -> None:
        pass


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_a_terminal_there_are_lines_only() -> None:
    out, search = Console(file=io.StringIO(), width=80), work(0.02)
    assert isinstance(out.file, io.StringIO)
    with LiveView(search, out, every=0.0):
        LocalRunner().run(search)
        until(lambda: "\n" in out.file.getvalue())  # type: ignore[attr-defined]
    text = out.file.getvalue()
    assert "\x1b" not in text
    found = text.splitlines()
    assert len(found) >= 2
    assert all(line.startswith("search · random ") for line in found)
    assert found[-1].startswith("search · random 100%: ")


def test_on_a_terminal_one_line_stays() -> None:
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    search = work(0.0)
    assert isinstance(out.file, io.StringIO)
    with LiveView(search, out):
        LocalRunner().run(search)
        until(lambda: "rungs (" in out.file.getvalue())  # type: ignore[attr-defined]
    text = out.file.getvalue()
    assert "rungs (step: reached" in text
    assert "search · random 100%: " in text.splitlines()[-1]


def test_a_status_that_cannot_be_read_now_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    search, out = work(0.0), Console(file=io.StringIO(), width=80)
    plain, calls = search.status, []

    def status_() -> SearchStatus:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("dictionary changed size during iteration")
        return plain()

    monkeypatch.setattr(search, "status", status_)
    with LiveView(search, out, every=0.0):
        LocalRunner().run(search)
        until(lambda: len(calls) >= 4)
