"""The section of a report on failures, versions, sessions and settings."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from raynas.analysis import formatting as words
from raynas.analysis import statistics as st
from raynas.analysis import summary as tables
from raynas.core import TrialState
from raynas.store.run_source import is_written
from raynas.store.schema import FINAL

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.store import RunInfo

_SHOWN_REASONS = 12
_SHOWN_HOSTS = 12


def provenance_section(
    run: st.RunStatistics, table: pa.Table, info: RunInfo, path: Path | None
) -> dict[str, Any]:
    """Return the template's values for failures, bounds, versions, sessions and settings.

    Args:
        run: The loaded run.
        table: Its rows.
        info: The identity of the run.
        path: The folder of the run; None where it is not known.

    Returns:
        Name in the template -> value.
    """
    failed = tables.reasons(run, TrialState.FAILED)
    infeasible = tables.reasons(run, TrialState.INFEASIBLE)
    return {
        "failed": failed[:_SHOWN_REASONS],
        "failed_rest": failed[_SHOWN_REASONS:],
        "infeasible": infeasible[:_SHOWN_REASONS],
        "infeasible_rest": infeasible[_SHOWN_REASONS:],
        "bounds": [_bound(b) for b in run.description.get("bounds") or ()],
        "environment": _environment(run, table, info),
        "sessions": _sessions(run),
        "commands": _commands(info, path),
        "settings": Markup("").join(_settings(info.description)),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _bound(bound: Mapping[str, Any]) -> str:
    low, high = bound.get("min"), bound.get("max")
    left = f"{words.si(low)} ≤ " if isinstance(low, int | float) and math.isfinite(low) else ""
    right = f" ≤ {words.si(high)}" if isinstance(high, int | float) and math.isfinite(high) else ""
    return f"{left}{bound.get('metric')}{right}"


def _environment(run: st.RunStatistics, table: pa.Table, info: RunInfo) -> list[tuple[str, str]]:
    def listed(column: str, most: int = _SHOWN_HOSTS) -> str:
        pairs = tables.counted(table, column)
        if len(pairs) == 1:
            return pairs[0][0]
        shown = [f"{value} ({words.count(n, 'row')})" for value, n in pairs[:most]]
        rest = [f"and {len(pairs) - most:,} more"] if len(pairs) > most else []
        return "; ".join([*shown, *rest]) or words.DASH

    final = sorted({int(s) for s in run.trials.seed[run.trials.stage == FINAL]})
    lines = [
        ("run", info.run),
        ("created", info.created),
        ("fingerprint", info.fingerprint),
        ("git", listed("git")),
        ("versions", listed("versions")),
        ("hosts", listed("host")),
        ("devices", listed("device")),
        ("seed of the search", str(run.description.get("seed", words.DASH))),
    ]
    if final:
        lines.append(("seeds of the finals", ", ".join(map(str, final[:20]))))
    if weights := tables.counted(table, "weights"):
        lines.append(("inherited weights", ", ".join(v for v, _ in weights[:_SHOWN_HOSTS])))
    return lines


def _sessions(run: st.RunStatistics) -> list[tuple[int, str, str, int]]:
    """Return number, first row's time, length and rows of each start of the run."""
    listed = []
    for session in np.unique(run.rows.session):
        time = run.rows.time[run.rows.session == session]
        start = datetime.fromtimestamp(float(time.min()), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        length = words.duration(float(time.max() - time.min()))
        listed.append((int(session), start, length, len(time)))
    return listed


def _commands(info: RunInfo, path: Path | None) -> list[str]:
    """Return the commands that repeat this run, resume it, and export its network."""
    overrides = [f"--set {shlex.quote(f'{k}={v}')}" for k, v in info.overrides.items()]
    where = run_argument(path)
    source = shlex.quote(info.source_file or "experiment.py")
    if path is not None and is_written(path / "experiment.py"):
        source = f"{where}/experiment.py"
    again = ["raynas run", source, *(["--smoke"] if info.smoke else []), *overrides]
    return [" ".join(again), f"raynas resume {where} --trials +32", f"raynas export {where}"]


def run_argument(path: Path | None) -> str:
    """Return the run as a command names it."""
    usual = path is not None and path.parent.name == "runs"
    return shlex.quote(f"runs/{path.name}" if path and usual else str(path or "RUN"))


def _settings(value: Any, name: str = "") -> list[Markup]:
    """Return a described experiment as nested lists of HTML."""
    if isinstance(value, Mapping):
        kind = value.get("class", "")
        head = Markup("<dt>{}</dt><dd>{}").format(name, kind) if name else Markup("<dd>")
        inner = [part for k, v in value.items() if k != "class" for part in _settings(v, str(k))]
        body = Markup("<dl>{}</dl>").format(Markup("").join(inner)) if inner else Markup("")
        return [head, body, Markup("</dd>")]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(v, Mapping) for v in value):
            return [p for i, v in enumerate(value) for p in _settings(v, f"{name} {i + 1}")]
        value = json.dumps(value, ensure_ascii=False)
    text = str(value) if isinstance(value, str) else json.dumps(value)
    return [Markup("<dt>{}</dt><dd>{}</dd>").format(name, text)]
