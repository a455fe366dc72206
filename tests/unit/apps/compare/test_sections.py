"""Tables and curves of results, against numbers worked out by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from raynas.analysis.formatting import DASH
from raynas.apps.compare.page import terminal_table, write_page
from raynas.apps.compare.sections import PUBLISHED_RESULTS, sections
from raynas.apps.compare.tasks import ComparisonTask


def task(protocol: str, method: str, seed: int, workers: int = 1) -> ComparisonTask:
    return ComparisonTask(protocol, "cifar10", method, "abc", seed, workers)


def trainings(*best: tuple[int, float, float]) -> dict[str, Any]:
    return {"best": list(best), "top": 94.0, "trainings": 200, "seconds": 7200.0, "took": 0.5}


TWO = {
    task("trainings", "random", 0): trainings((1, 80.0, 90.0), (40, 85.0, 92.0)),
    task("trainings", "random", 1): trainings((1, 81.0, 91.0), (150, 85.0, 93.0)),
    task("trainings", "tpe", 0): trainings((30, 88.0, 93.5)),
    task("trainings", "tpe", 1): trainings((60, 88.0, 93.5)),
}


def test_the_best_so_far_after_so_many_trainings() -> None:
    (section,) = sections(TWO)
    assert section.title == "After n trainings: CIFAR-10"
    numbers = ("n = 25", "n = 50", "n = 100", "n = 200")
    assert section.head == ("method", *numbers, "ahead", "sim h", "real s")
    assert "2 runs each" in section.text
    fewer = {t: r for t, r in TWO.items() if (t.method, t.seed) != ("tpe", 1)}
    assert "1 to 2 runs each" in sections(fewer)[0].text
    random, tpe = section.rows
    assert random[:3] == ("random", "90.50 (0.71)", "91.50 (0.71)")  # two runs: no interval
    assert random[4].startswith("92.50")
    assert random[5:] == (DASH, "2", "0.50")
    assert tpe[5] == "2/2 p=0.5"
    assert tpe[1:4] == ("-", "93.50", "93.50 (0.00)")  # before a complete trial there is none


def test_seeds_are_compared_in_pairs_without_ties() -> None:
    found = {task("trainings", "random", seed): trainings((1, 80.0, 90.0)) for seed in range(12)}
    for seed in range(10):
        tested = 90.0 if seed == 0 else 89.0 if seed == 1 else 91.0
        found[task("trainings", "tpe", seed)] = trainings((1, 80.0, tested))
    (section,) = sections(found)
    assert section.rows[1][5] == "8/9 p=0.039"
    alone = {t: r for t, r in found.items() if t.method == "tpe"}
    assert sections(alone)[0].rows[0][5] == DASH


def test_the_curves_are_distances_from_the_optimum() -> None:
    (section,) = sections(TWO)
    random, tpe = section.figure.curves
    assert (random.x[0], random.y[0], random.y[-1]) == (1.0, 3.5, 1.5)
    assert np.isnan(random.low).all()  # two runs: no band
    several = {task("trainings", "random", s): trainings((1, 80.0, 90.0 + s)) for s in range(6)}
    ((curve,),) = [s.figure.curves for s in sections(several)]
    assert np.all(curve.low < curve.y)
    assert np.all(curve.y < curve.high)
    assert tpe.x[0] == 60.0  # from where all runs have one


def test_the_published_means_stand_below_ours_with_the_distance_in_errors() -> None:
    means = {d: PUBLISHED_RESULTS["bohb"][d][0] for d in PUBLISHED_RESULTS["bohb"]}
    found = {
        task("published", "bohb", s): {
            "test": {d: m + 0.1 + 0.1 * (-1) ** s for d, m in means.items()},
            "trainings": 80, "seconds": 11_000.0, "took": 0.01,
        }
        for s in range(500)
    }  # fmt: skip
    (section,) = sections(found)
    ours, paper = section.rows
    assert ours[:3] == ("bohb", "80", "93.71 (0.10) ±0.01")
    error = math.hypot(0.1 * math.sqrt(500 / 499), 0.52) / math.sqrt(500)
    assert ours[3] == f"{0.1 / error:+.1f}"
    assert paper[:3] == ("  published", "", "93.61 (0.52)")


def test_hours_of_clusters_and_how_many_times_faster() -> None:
    hours = {(1, 0): 100.0, (1, 1): 300.0, (10, 0): 10.0, (10, 1): 30.0}
    found = {
        task("cluster", "asha", seed, workers): {
            "hours": h, "trials": 5, "worker_hours": h, "utilisation": 1.0, "took": 0.1,
        }
        for (workers, seed), h in hours.items()
    }  # fmt: skip
    (section,) = sections(found)
    ((name, one, _, ten, faster),) = section.rows
    assert (name, faster) == ("asha", "10x")
    assert (one, ten) == ("200", "20")  # two runs: no interval
    np.testing.assert_allclose(section.figure.curves[0].y, [200, 20])


def test_runs_that_all_end_alike_show_no_certainty() -> None:
    alike = {task("trainings", "tpe", s): trainings((1, 88.0, 93.5)) for s in range(9)}
    assert sections(alike)[0].rows[0][1] == "93.50 (0.00)"
    near = {t: trainings((1, 88.0, 93.5 + (t.seed == 3))) for t in alike}
    assert sections(near)[0].rows[0][1].startswith("93.61 (0.33) ±")


def test_a_search_that_never_got_there_has_no_interval() -> None:
    found = {
        task("cluster", "asha", seed): {"hours": None if seed else 1.0, "took": 0.1}
        for seed in range(6)
    }
    with np.errstate(invalid="ignore"):
        (section,) = sections(found)
    assert section.rows[0][1] == "inf"


def test_the_page_holds_everything_and_escapes_it(tmp_path: Path) -> None:
    write_page(tmp_path / "c.html", sections(TWO), "raynas bench nb201 --methods '<x>'")
    text = (tmp_path / "c.html").read_text()
    assert "After n trainings: CIFAR-10" in text
    assert "93.50 (0.00)" in text
    assert text.count("data:image/svg+xml;base64,") == 1
    assert "&lt;x&gt;" in text
    assert 'src="http' not in text
    assert ".dense td" in text  # the look of the reports


def test_tables_fit_a_wide_terminal() -> None:
    from rich.console import Console

    out = Console(width=112, record=True, file=io.StringIO())
    for section in sections(TWO):
        out.print(terminal_table(section))
    assert "…" not in out.export_text()
