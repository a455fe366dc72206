"""Numbers and names as a reader wants to see them: few digits, always a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from raynas.core import metrics as known

DASH = "\N{EN DASH}"
UNITS: Mapping[str, str] = {
    m.name: m.unit
    for m in (
        known.VAL_ACCURACY, known.VAL_LOSS, known.TEST_ACCURACY, known.TEST_LOSS,
        known.TRAIN_ACCURACY, known.TRAIN_LOSS, known.PARAMS, known.MACS, known.SECONDS,
        known.LATENCY,
    )
}  # fmt: skip

SCORE = known.SCORE_UNIT
_LABELS = {
    "params": "parameters", "macs": "MACs", "seconds": "worker time", "latency_ms": "latency",
}  # fmt: skip
_PREFIXES = {"val": "validation"}


def label(metric: str) -> str:
    """``val_accuracy`` -> "validation accuracy"."""
    if metric in _LABELS:
        return _LABELS[metric]
    first, *rest = metric.split("_")
    return " ".join([_PREFIXES.get(first, first), *rest])


def axis(metric: str, unit: str) -> str:
    """An axis label: name and, where it says more than the name, the unit in parentheses."""
    name = named(metric, unit)
    return name if metric in ("params", "macs") or unit in ("", SCORE) else f"{name} ({unit})"


def named(metric: str, unit: str) -> str:
    """The label; of a proxy "naswot score", with no second "score" behind ``zen_score``."""
    name = label(metric)
    return f"{name} {SCORE}" if unit == SCORE and not name.endswith(SCORE) else name


def count(value: int, noun: str, plural: str = "") -> str:
    """``count(1, "trial")`` -> "1 trial"; thousands are set off."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def si(value: float) -> str:
    """Three digits and a letter: 1234567 -> "1.23 M"."""
    if not math.isfinite(value):
        return DASH
    size = abs(value)
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor * 0.9995:
            return f"{_three(value / factor)} {letter}"
    return f"{value:g}" if float(value).is_integer() else _three(value)


def tick(value: float) -> str:
    """:func:`si` for an axis: no digit more than needed."""
    text, _, letter = si(value).partition(" ")
    return f"{float(text):g} {letter}".rstrip() if math.isfinite(value) else text


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Two units at most: 4000 -> "1 h 7 min"."""
    if not math.isfinite(seconds):
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, names in (
        (86400, 3600, ("d", "h")),
        (3600, 60, ("h", "min")),
        (60, 1, ("min", "s")),
    ):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {names[0]}" + (f" {rest} {names[1]}" if rest else "")
    return f"{whole} s"


def quantity(metric: str, value: float, unit: str = "") -> str:
    """A value of ``metric`` with its unit: accuracies with two decimals, costs in k, M, G.

    Scores have no unit, but five digits, since large ones differ little.
    """
    if not math.isfinite(value):
        return DASH
    if unit == SCORE:
        return f"{value:.5g}"
    if metric in ("params", "macs"):
        return si(value)
    if metric == "seconds":
        return duration(value)
    if unit == "%":
        return f"{value:.2f} %"
    return f"{value:.4g} {unit}".rstrip()


def finding(metric: str, value: float, unit: str = "") -> str:
    """A value and what it is of: "93.20 % validation accuracy", "a naswot score of 1612.3"."""
    if unit == SCORE:
        return f"a {named(metric, unit)} of {quantity(metric, value, unit)}"
    return f"{quantity(metric, value, unit)} {label(metric)}"


def difference(metric: str, value: float, unit: str = "") -> str:
    """The size of a difference; of percentages it is in points."""
    if unit == "%":
        return f"{abs(value):.2f} points"
    return quantity(metric, abs(value), unit)


def spread(metric: str, mean: float, std: float, unit: str = "") -> str:
    """``mean ± std`` with the unit said once."""
    if not math.isfinite(std):
        return quantity(metric, mean, unit)
    if unit == "%":
        return f"{mean:.2f} ± {std:.2f} %"
    return f"{mean:.4g} ± {std:.2g} {unit}".rstrip()
