"""Numbers and names formatted for readers: few digits, always a unit."""

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
    """Return the readable name of a metric.

    Args:
        metric: Name of a column.

    Returns:
        Its name in words.

    Example:
        >>> label("val_accuracy")
        'validation accuracy'
    """
    if metric in _LABELS:
        return _LABELS[metric]
    first, *rest = metric.split("_")
    return " ".join([_PREFIXES.get(first, first), *rest])


def axis(metric: str, unit: str) -> str:
    """Return an axis label: the name and, where it adds something, the unit in parentheses.

    Args:
        metric: Name of a column.
        unit: Unit of the metric.

    Returns:
        The label.

    Example:
        >>> axis("val_accuracy", "%")
        'validation accuracy (%)'
    """
    name = named(metric, unit)
    return name if metric in ("params", "macs") or unit in ("", SCORE) else f"{name} ({unit})"


def named(metric: str, unit: str) -> str:
    """Return the label of a metric, followed by "score" where it is the score of a proxy.

    Args:
        metric: Name of a column.
        unit: Unit of the metric.

    Returns:
        Such as "naswot score"; a name that ends in "score" gets no second one.
    """
    name = label(metric)
    return f"{name} {SCORE}" if unit == SCORE and not name.endswith(SCORE) else name


def count(value: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in singular or plural.

    Args:
        value: The number; thousands are separated by commas.
        noun: The singular.
        plural: The plural, where it is not the singular with an "s".

    Returns:
        Such as "1 trial".

    Example:
        >>> count(1200, "trial")
        '1,200 trials'
    """
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def si(value: float) -> str:
    """Return a number with three digits and a letter for its magnitude.

    Args:
        value: The number.

    Returns:
        Such as "1.23 M"; a dash where it is not finite.

    Example:
        >>> si(1234567)
        '1.23 M'
    """
    if not math.isfinite(value):
        return DASH
    size = abs(value)
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor * 0.9995:
            return f"{_three(value / factor)} {letter}"
    return f"{value:g}" if float(value).is_integer() else _three(value)


def tick(value: float) -> str:
    """Return :func:`si` for an axis, without trailing zeros.

    Args:
        value: The number.
    """
    text, _, letter = si(value).partition(" ")
    return f"{float(text):g} {letter}".rstrip() if math.isfinite(value) else text


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return a time in at most two units.

    Args:
        seconds: The time in seconds.

    Returns:
        Such as "1 h 6 min"; a dash where it is not finite.

    Example:
        >>> duration(4000)
        '1 h 6 min'
    """
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
    """Return a value of ``metric`` with its unit: accuracies with two decimals, costs in k, M, G.

    Scores have no unit, but five digits, since large ones differ little.

    Args:
        metric: Name of a column.
        value: The value.
        unit: Its unit.

    Returns:
        The text; a dash where the value is not finite.
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
    """Return a value and the name of its metric.

    Args:
        metric: Name of a column.
        value: The value.
        unit: Its unit.

    Returns:
        Such as "93.20 % validation accuracy" or "a naswot score of 1612.3".
    """
    if unit == SCORE:
        return f"a {named(metric, unit)} of {quantity(metric, value, unit)}"
    return f"{quantity(metric, value, unit)} {label(metric)}"


def difference(metric: str, value: float, unit: str = "") -> str:
    """Return the size of a difference with its unit.

    Args:
        metric: Name of a column.
        value: The difference, of either sign.
        unit: Unit of the metric; differences of percentages are in points.

    Returns:
        Such as "1.20 points".
    """
    if unit == "%":
        return f"{abs(value):.2f} points"
    return quantity(metric, abs(value), unit)


def spread(metric: str, mean: float, std: float, unit: str = "") -> str:
    """Return ``mean ± std`` with the unit once.

    Args:
        metric: Name of a column.
        mean: The mean.
        std: The standard deviation; NaN leaves it out.
        unit: Unit of both.

    Returns:
        Such as "93.20 ± 0.31 %".
    """
    if not math.isfinite(std):
        return quantity(metric, mean, unit)
    if unit == "%":
        return f"{mean:.2f} ± {std:.2f} %"
    return f"{mean:.4g} ± {std:.2g} {unit}".rstrip()
