"""Results as tables and curves, computed once for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raynas.analysis.chance import sign_test
from raynas.analysis.formatting import DASH
from raynas.analysis.intervals import MEANS_FROM, mean_half_width, mean_half_widths
from raynas.apps.compare.protocols import AT, TRAININGS, WITHIN, WORKERS
from raynas.apps.compare.published import SECONDS
from raynas.apps.compare.table_values import TEST, VALIDATION
from raynas.apps.compare.tasks import ComparisonTask, of

RANDOM = "random"
Floats = NDArray[np.float64]
Found = Mapping[ComparisonTask, Mapping[str, Any]]

_LABELS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16": "ImageNet16-120"}
PUBLISHED_RESULTS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "random": {"cifar10": (93.70, 0.36), "cifar100": (71.04, 1.07), "imagenet16": (44.57, 1.25)},
    "evolution": {"cifar10": (93.92, 0.30), "cifar100": (71.84, 0.99), "imagenet16": (45.54, 1.03)},
    "reinforce": {"cifar10": (93.85, 0.37), "cifar100": (71.71, 1.09), "imagenet16": (45.24, 1.18)},
    "bohb": {"cifar10": (93.61, 0.52), "cifar100": (70.85, 1.28), "imagenet16": (44.42, 1.49)},
}
"""Test accuracy of 500 runs: mean and standard deviation, from the papers of the benchmark."""
_PUBLISHED_RUNS = 500


@dataclass(frozen=True)
class FigureCurve:
    """One line of a figure, with a band around it.

    Attributes:
        name: Name of the method.
        x: (k,) positions.
        y: (k,) values.
        low: (k,) lower ends of the band; NaN where there is none.
        high: (k,) upper ends of the band; NaN where there is none.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class PageFigure:
    """A figure with one curve per method.

    Attributes:
        title: Heading of the figure.
        across: Label of the horizontal axis.
        up: Label of the vertical axis.
        curves: The curves.
        log_x: True for a logarithmic horizontal axis.
        log_y: True for a logarithmic vertical axis.
    """

    title: str
    across: str
    up: str
    curves: tuple[FigureCurve, ...]
    log_x: bool = False
    log_y: bool = True


@dataclass(frozen=True)
class PageSection:
    """A table with a heading, a text and, if there is one, a figure.

    Attributes:
        title: Heading of the section.
        text: Explanation of the numbers.
        head: Names of the columns.
        rows: Cells of each row.
        figure: The figure; None for none.
        notes: Further remarks.
    """

    title: str
    text: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figure: PageFigure | None = None
    notes: tuple[str, ...] = field(default=())


def sections(found: Found) -> list[PageSection]:
    """Make the sections of all protocols and data sets that have results.

    Args:
        found: Run -> its result.

    Returns:
        The sections, ordered by protocol.
    """
    made: list[PageSection] = []
    for protocol, make in _MAKERS.items():
        datasets = dict.fromkeys(t.dataset for t in found if t.protocol == protocol)
        made += [make(dict(of(found, protocol=protocol, dataset=d)), d) for d in datasets]
    return made


def label(dataset: str) -> str:
    """Return the readable name of a data set.

    Args:
        dataset: Name of a data set.

    Example:
        >>> label("imagenet16")
        'ImageNet16-120'
    """
    return _LABELS.get(dataset, dataset)


def _by_method(found: Found) -> dict[str, list[Mapping[str, Any]]]:
    """Method -> its results by seed, in the order of the methods."""
    made: dict[str, list[Mapping[str, Any]]] = {}
    for task, result in sorted(found.items(), key=lambda pair: pair[0].seed):
        made.setdefault(task.method, []).append(result)
    return {method: made[method] for method in dict.fromkeys(t.method for t in found)}


def _cell(values: Floats) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    width = mean_half_width(values)
    deviation = f" ({values.std(ddof=1):.2f})" if len(values) > 1 else ""
    tail = "" if math.isnan(width) else f" ±{width:.2f}"
    return f"{values.mean():.2f}{deviation}{tail}"


_CELL = (
    "mean (standard deviation) ± half of the mean's 95 % interval, "
    f"from {MEANS_FROM} runs on that differ"
)


def _tested(result: Mapping[str, Any], at: ArrayLike = AT) -> Floats:
    """Return the accuracy of the best by validation after some numbers of trainings.

    NaN where there is none yet.
    """
    best = result["best"]
    numbers = [number for number, _, _ in best]
    places = np.searchsorted(numbers, np.asarray(at), side="right") - 1
    return np.array([best[p][2] if p >= 0 else math.nan for p in places])


def _runs(methods: Mapping[str, Sequence[object]]) -> str:
    """Return in words how many runs a method has."""
    low, high = min(map(len, methods.values())), max(map(len, methods.values()))
    return f"{high} runs each" if low == high else f"{low} to {high} runs each"


def _by_seed(found: Found, method: str) -> dict[int, Mapping[str, Any]]:
    return {task.seed: result for task, result in of(found, method=method)}


def _ahead(ours: Mapping[int, float], chance: Mapping[int, float]) -> str:
    """Return in how many seeds ``ours`` are higher, of those in which they differ."""
    gaps = [ours[seed] - chance[seed] for seed in ours.keys() & chance.keys()]
    ahead, behind = (sum(sign * gap > 0 for gap in gaps) for sign in (1, -1))
    if not ahead + behind:
        return DASH
    return f"{ahead}/{ahead + behind} p={sign_test(ahead, behind):.2g}"


_NO_TEST = (
    " The table has no test accuracies: shown is the value that was searched for, the highest that "
    "was seen, which is more than what the architecture is worth."
)


def _spent(results: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    hours = np.mean([r["seconds"] for r in results]) / 3600
    return f"{hours:.0f}", f"{np.mean([r['took'] for r in results]):.2f}"


_ACCURACY = {TEST: "test accuracy", VALIDATION: "validation accuracy"}


def _trainings(found: Found, dataset: str, title: str, which: str) -> PageSection:
    """Make a section of full trainings; ``which`` says in words which architecture is shown."""
    methods, judged = _by_method(found), next(iter(found.values())).get("judged", TEST)
    shown, on_test = _ACCURACY[judged], judged == TEST
    text = f"{shown.capitalize()} (%) of {which}" + ("" if on_test else _NO_TEST)
    chance = {seed: _tested(one)[-1] for seed, one in _by_seed(found, RANDOM).items()}
    rows, curves, every = [], [], np.arange(1, TRAININGS + 1)
    for method, results in methods.items():
        tested = np.array([_tested(r) for r in results])
        cells = [_cell(column) for column in tested.T]
        own = {seed: _tested(one)[-1] for seed, one in _by_seed(found, method).items()}
        ahead = _ahead(own, chance) if method != RANDOM else DASH
        rows.append((method, *cells, ahead, *_spent(results)))
        lines = np.array([_tested(r, every) for r in results])
        curves.append(_curve(method, every, results[0]["top"] - lines))
    return PageSection(
        f"{title}: {label(dataset)}" + ("" if on_test else f", {shown}"),
        f"{text} {_runs(methods)}; {_CELL}. Ahead: in how many of its runs a method found "
        f"something better than random search did in {TRAININGS} trainings with the same seed, and "
        "the probability of a count as uneven by chance (exact sign test, ties left out, not "
        f"corrected for the number of methods). sim h: simulated hours of {TRAININGS} trainings; "
        "real s: processor seconds of such a run here.",
        (
            "method",
            *(f"n = {n}" if on_test else f"{judged}, n = {n}" for n in AT),
            *("ahead", "sim h", "real s"),
        ),
        tuple(rows),
        PageFigure(
            "Regret",
            "trainings",
            f"mean distance from the optimum, % {shown}",
            tuple(curves),
            log_x=True,
        ),
    )


def _curve(name: str, x: NDArray[Any], lines: Floats) -> FigureCurve:
    there = np.isfinite(lines).all(axis=0)
    kept = lines[:, there]
    mean = kept.mean(axis=0)
    width = mean_half_widths(kept)
    return FigureCurve(name, x[there].astype(float), mean, mean - width, mean + width)


def _plain(found: Found, dataset: str) -> PageSection:
    return _trainings(
        found, dataset, "After n trainings", "the best by validation accuracy.",
    )  # fmt: skip


def _bounded(found: Found, dataset: str) -> PageSection:
    limit = next(iter(found.values()))["limit"]
    return _trainings(
        found, dataset, "EdgeGPU latency at most its median",
        f"the best by validation among those up to {limit:.2f} ms; that a cell is slower is known "
        "when it is trained.",
    )  # fmt: skip


def _pareto(found: Found, dataset: str) -> PageSection:
    methods = _by_method(found)
    rows = []
    for method, results in methods.items():
        shares = np.array([r["volume"] for r in results])
        rows.append((method, *(_cell(column) for column in shares.T), *_spent(results)))
    return PageSection(
        f"Accuracy and latency: {label(dataset)}",
        "Hypervolume of validation accuracy and EdgeGPU latency in percent of what the whole table "
        f"has, above the median accuracy and below the highest latency; {_CELL}.",
        ("method", *(f"n = {n}" for n in AT), "sim h", "real s"),
        tuple(rows),
    )


def _published(found: Found, _: str) -> PageSection:
    """Make a section with a row per method, and below it the published row.

    Differences are in units of their standard error.
    """
    rows: list[tuple[str, ...]] = []
    took = 0.0
    for method, results in _by_method(found).items():
        took += sum(r["took"] for r in results)
        cells, papers = [], []
        for dataset, (mean, deviation) in PUBLISHED_RESULTS[method].items():
            ours = np.array([r["test"][dataset] for r in results])
            error = math.hypot(
                ours.std(ddof=1) / math.sqrt(len(ours)), deviation / math.sqrt(_PUBLISHED_RUNS)
            ) if len(ours) > 1 else math.nan  # fmt: skip
            cells += [_cell(ours), f"{(ours.mean() - mean) / error:+.1f}"]
            papers += [f"{mean:.2f} ({deviation:.2f})", ""]
        count = f"{np.mean([r['trainings'] for r in results]):.0f}"
        rows.append((method, count, *cells))
        rows.append(("  published", "", *papers))
    return PageSection(
        f"The published protocol: {SECONDS:,.0f} simulated seconds",
        f"Search on CIFAR-10 by validation accuracy after 12 epochs, {_runs(_by_method(found))}; "
        f"test accuracy (%) after 200 epochs of what it found. {_CELL}; z: difference from the "
        "published mean in standard errors of the difference. All runs took "
        f"{took:.0f} processor seconds here.",
        ("method", "n", *(h for d in _LABELS for h in (label(d), "z"))),
        tuple(rows),
    )


def _cluster(found: Found, dataset: str) -> PageSection:
    """Make a section of the hours to the goal, and the speedup over the fewest workers."""
    rows, curves = [], []
    counts = [n for n in WORKERS if any(t.workers == n for t in found)]
    for method in dict.fromkeys(t.method for t in found):
        hours = {n: _hours(found, method, n) for n in counts}
        times, faster = [], []
        for count in counts:
            mean, width = float(np.mean(hours[count])), mean_half_width(hours[count])
            times.append(f"{mean:.3g}" + ("" if math.isnan(width) else f" ±{width:.2g}"))
            faster.append(f"{np.mean(hours[counts[0]]) / mean:.0f}x")
        rows.append((method, *(c for pair in zip(times, faster, strict=True) for c in pair)))
        curves.append(_hours_curve(method, counts, hours))
    runs = len({t.seed for t in found})
    return PageSection(
        f"Simulated clusters: {label(dataset)}",
        f"Hours until a fully trained cell is within {WITHIN} points of the best validation "
        f"accuracy of the table, by workers: mean of {runs} runs ± half of its 95 % interval (from "
        f"{MEANS_FROM} runs on that differ), and "
        "how many times faster than with the fewest workers. Proposals are random; the scheduler "
        "sees the accuracy after 12 epochs, one in ten is trained for 200 epochs from scratch.",
        (
            "scheduler",
            *(h for n in counts for h in (f"{n} worker{'s' if n > 1 else ''}", "faster")),
        ),
        tuple(rows),
        PageFigure("Time to the goal", "workers", "hours", tuple(curves), log_x=True),
    )


def _hours(found: Found, method: str, workers: int) -> Floats:
    """Return (runs,) hours to the goal; infinite for a run that never reached it."""
    results = [r for _, r in of(found, method=method, workers=workers)]
    return np.array([math.inf if r["hours"] is None else r["hours"] for r in results])


def _hours_curve(method: str, counts: Sequence[int], hours: Mapping[int, Floats]) -> FigureCurve:
    mean = np.array([hours[n].mean() for n in counts])
    width = np.array([mean_half_width(hours[n]) for n in counts])
    return FigureCurve(method, np.array(counts, dtype=float), mean, mean - width, mean + width)


_MAKERS: Mapping[str, Callable[[Found, str], PageSection]] = {
    "published": _published,
    "trainings": _plain,
    "bounded": _bounded,
    "pareto": _pareto,
    "cluster": _cluster,
}
