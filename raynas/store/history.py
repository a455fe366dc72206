"""This module checks what must be true of the stored rows of every run.

:func:`raynas.store.read` returns one row per trial and step; here all rows are checked, as
appended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from raynas.core import TrialState, UserError
from raynas.store.files import reason
from raynas.store.fragments import Fragment, list_fragments, read_fragment
from raynas.store.local_storage import LocalStorage
from raynas.store.manifest import TORN, Manifest, snapshot
from raynas.store.older import parsed
from raynas.store.run import RunFolder

Row = dict[str, Any]

_IDENTITY = ("stage", "arm", "arch_id", "arch", "proposal", "seed")
"""The columns that a trial's number identifies: they are the same in all its rows."""

_COLUMNS = ("trial", "session", "attempt", "step", "state", *_IDENTITY)


@dataclass(frozen=True)
class _Stored:
    """A row, and the fragment that it lies in."""

    fragment: str
    row: Row


def check(folder: RunFolder) -> list[str]:
    """Check the stored history of a run.

    * Every fragment counts once, and the manifest names files that are there.
    * Sessions do not go down in the order of the rows.
    * A trial number stands for one architecture, seed, stage and method.
    * Of a trial, attempts do not go down within a session; the steps of an attempt rise.
    * A trial has all steps up to its last that any trial of its stage has: no curve has a hole.
    * After a trial has ended, only a later session or attempt has rows of it.

    Args:
        folder: The run. Of one that lives elsewhere, its up-to-date working copy.

    Returns:
        One line per violation; empty for a valid history.

    Raises:
        UserError: The rows cannot be read.
    """
    try:
        fragments, _ = list_fragments(folder.results)
        found = list(_fragments(folder, fragments))
        rows = list(_rows(fragments))
    except OSError as error:
        raise UserError(
            f"{folder.results} cannot be read: {reason(error)}", hint="make it readable"
        ) from error
    found += _sessions(rows)
    trials: dict[int, list[_Stored]] = {}
    for stored in rows:
        trials.setdefault(stored.row["trial"], []).append(stored)
    grids = _grids(rows)
    for number in sorted(trials):
        grid = grids[trials[number][0].row["stage"]]
        found += [f"trial {number}: {text}" for text in _trial(trials[number], grid)]
    return found


def _rows(fragments: Sequence[Fragment]) -> Iterator[_Stored]:
    for fragment in fragments:
        for row in read_fragment(fragment.path).select(_COLUMNS).to_pylist():
            yield _Stored(fragment.path.name, row)


def _fragments(folder: RunFolder, fragments: Sequence[Fragment]) -> Iterator[str]:
    """Numbers that two fragments hold, or none; what the manifest says of them."""
    names = Counter(f.path.name for f in fragments)
    yield from (f"fragment {name} counts {n} times" for name, n in names.items() if n > 1)
    seen = snapshot(LocalStorage(folder.path))
    torn = [parsed(name.removesuffix(TORN)) for name in seen.listed if name.endswith(TORN)]
    gone = {number for n in torn if n for number in range(n.first, n.last + 1)}
    for before, after in pairwise(fragments):
        if after.first <= before.last:
            yield f"fragments {before.path.name} and {after.path.name} hold the same appends"
        elif set(range(before.last + 1, after.first)) - gone:
            missing = f"{before.last + 1} to {after.first - 1}"
            yield f"appends {missing} are missing before fragment {after.path.name}"
        if after.session < before.session:
            yield f"fragment {after.path.name} of an earlier session follows {before.path.name}"
    if seen.manifest is not None:
        yield from _manifest(seen.manifest)


def _manifest(manifest: Manifest) -> Iterator[str]:
    parts = [parsed(name) for name in manifest.fragments]
    for name, part in zip(manifest.fragments, parts, strict=True):
        if part is None:
            yield f"the manifest names {name}, which is not a fragment"
        elif part.last >= manifest.first:
            yield f"the manifest names {name}, which lies behind its first slot {manifest.first}"
        elif part.session > manifest.epoch:
            yield f"the manifest of epoch {manifest.epoch} names {name} of a later one"


def _sessions(rows: Sequence[_Stored]) -> Iterator[str]:
    for before, after in pairwise(rows):
        if after.row["session"] < before.row["session"]:
            yield (
                f"a row of session {after.row['session']} in {after.fragment} follows one of "
                f"session {before.row['session']} in {before.fragment}"
            )


def _grids(rows: Sequence[_Stored]) -> dict[str, frozenset[int]]:
    """Return the measured steps of each stage. Step 0, a screening, does not count."""
    found: dict[str, set[int]] = {}
    for stored in rows:
        steps = found.setdefault(stored.row["stage"], set())
        if stored.row["step"]:
            steps.add(stored.row["step"])
    return {stage: frozenset(steps) for stage, steps in found.items()}


def _trial(rows: Sequence[_Stored], grid: frozenset[int]) -> Iterator[str]:
    first = rows[0].row
    for name in _IDENTITY:
        values = {r.row[name] for r in rows}
        if len(values) > 1:
            yield f"its {name} is {' and '.join(repr(v) for v in sorted(values, key=str)[:3])}"
    yield from _attempts(rows)
    yield from _after_the_end(rows)
    steps = _counted(rows)
    if missing := sorted(step for step in grid - set(steps) if steps and step < steps[-1]):
        yield f"step {missing[0]} is missing, and step {steps[-1]} is there ({first['stage']})"


def _attempts(rows: Sequence[_Stored]) -> Iterator[str]:
    """Attempts and their steps, within each session."""
    for before, after in pairwise(rows):
        b, a = before.row, after.row
        if a["session"] != b["session"]:
            continue
        if a["attempt"] < b["attempt"]:
            yield f"attempt {a['attempt']} in {after.fragment} follows attempt {b['attempt']}"
        elif a["attempt"] == b["attempt"] and None not in (a["step"], b["step"]):
            yield from _steps(before, after)


def _steps(before: _Stored, after: _Stored) -> Iterator[str]:
    """Steps of one attempt."""
    if after.row["step"] <= before.row["step"]:
        yield f"step {after.row['step']} in {after.fragment} follows step {before.row['step']}"


def _after_the_end(rows: Sequence[_Stored]) -> Iterator[str]:
    """Rows of an attempt behind the one that ended the trial; only a word about the end may follow.

    A later session goes on with a trial that had ended, and a later attempt with one that failed.
    """
    ended: _Stored | None = None
    for stored in rows:
        row = stored.row
        if ended is not None:
            same = all(row[n] == ended.row[n] for n in ("session", "attempt"))
            if same and not (row["step"] is None and TrialState(row["state"]).ended):
                yield (
                    f"a row ({row['state']}, step {row['step']}) in {stored.fragment} follows its "
                    f"end ({ended.row['state']}) in {ended.fragment}"
                )
        if TrialState(row["state"]).ended:
            ended = stored


def _counted(rows: Sequence[_Stored]) -> list[int]:
    """The steps that count, rising."""
    return sorted({r.row["step"] for r in rows if r.row["step"] is not None})
