"""What a report claims is so, and its 95 % intervals are: the quick version of calibrate.py.

The smallest sizes only and few repeats. The limits are those of a binomial count: a test fails
where the rate would be exceeded by chance in one of a thousand such tests. Seeds are fixed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from calibrate import claimed, covered
from calibration_cases import CLAIMS, INTERVALS, MANY, POWER, Claim, Interval
from scipy.stats import binom

from raynas.analysis.intervals import MEANS_FROM, PAIRS_FROM

ALPHA = 0.05
LOWEST, HIGHEST = 0.92, 0.98
UNLIKELY = 0.001
PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


def _repeats(case: Claim) -> int:
    """The runs of many proxies take ten times as long."""
    if not case.where.startswith(f"{MANY} ") and "rounded" not in case.where:
        return 100
    return 300 if "both sizes are worthless" in case.where else 40


def _name(case: Claim | Interval) -> str:
    first, second = (
        (case.sentence, case.where) if isinstance(case, Claim) else (case.shown, case.truth)
    )
    return re.sub(r"[^a-z0-9.]+", "-", f"{first} {second}".lower()).strip("-")


@pytest.mark.parametrize("case", CLAIMS, ids=_name)
def test_what_is_false_is_claimed_in_at_most_five_of_a_hundred_runs(case: Claim) -> None:
    repeats = _repeats(case)
    ((count, _),) = claimed([case], case.sizes[0], repeats)
    assert count <= binom.ppf(1 - UNLIKELY, repeats, ALPHA)


@pytest.mark.parametrize("case", POWER, ids=_name)
def test_what_is_clearly_so_is_claimed(case: Claim) -> None:
    ((count, repeats),) = claimed([case], case.sizes[0], 10)
    assert count >= 0.7 * repeats


@pytest.mark.parametrize("case", INTERVALS, ids=_name)
def test_intervals_hold_the_truth_where_they_are_first_shown(case: Interval) -> None:
    inside, shown = covered(case, case.sizes[0], 80)
    assert shown >= 40
    assert inside >= binom.ppf(UNLIKELY, shown, LOWEST)


@pytest.mark.parametrize(
    "case", [c for c in INTERVALS if c.sizes[0] in (PAIRS_FROM, MEANS_FROM)], ids=_name
)
def test_below_their_first_size_intervals_are_not_shown(case: Interval) -> None:
    assert covered(case, case.sizes[0] - 1, 3) == (0, 0)


def test_every_case_is_in_the_documented_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for case in (*CLAIMS, *POWER):
        assert f"| {case.sentence} | {case.where} |" in text
    for shown in INTERVALS:
        assert f"| {shown.shown} | {shown.truth} |" in text


def test_the_documented_rates_keep_to_their_limits() -> None:
    """The tables are what a long run printed."""
    text = PAGE.read_text(encoding="utf-8")
    false, _, intervals = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[:3]
    assert max(_rates(false)) <= 100 * ALPHA
    assert min(_rates(intervals)) >= 100 * LOWEST - 1  # twice the standard error
    assert max(_rates(intervals)) <= 100 * HIGHEST + 1


def _rates(table: str) -> list[float]:
    cells = [line.split("|")[-2] for line in table.splitlines()[2:]]
    return [float(rate) for cell in cells for rate in re.findall(r"([\d.]+) %", cell)]
