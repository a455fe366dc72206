"""This module shows a running search: a live view on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raynas.core import TrialState
from raynas.core.printable import printable
from raynas.pipeline.printing import PlainData, data_console
from raynas.search.context import SearchStatus
from raynas.search.job_source import JobSource

_STYLES = {
    TrialState.COMPLETE: "green",
    TrialState.STOPPED: "yellow",
    TrialState.RUNNING: "cyan",
    TrialState.INFEASIBLE: "magenta",
    TrialState.FAILED: "red",
}
_ROWS = 6
_STARTING = "starting workers"


def clock(seconds: float) -> str:
    """Return a duration as text.

    Args:
        seconds: The duration; below 0 counts as 0.

    Returns:
        ``M:SS``, or ``H:MM:SS`` from an hour on.

    Example:
        >>> clock(75), clock(3600)
        ('1:15', '1:00:00')
    """
    whole = int(max(seconds, 0))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def remaining(status: SearchStatus, begun: float = 0.0) -> float | None:
    """Estimate the time until the budget is used, at the pace so far.

    Args:
        status: The state of the search.
        begun: The share of the budget that was used when this session began, from 0 to 1.

    Returns:
        Seconds; None until this session has used more than 2 % of the budget.
    """
    done = status.share - begun
    return status.elapsed * (1 - status.share) / done if done > 0.02 else None


def shorten(text: str, width: int) -> str:
    """Return a text on one line of limited width, without control characters.

    Args:
        text: Any text.
        width: The most characters.

    Returns:
        The text, cut with an ellipsis if it is too long.

    Example:
        >>> shorten("a long text", 7)
        'a long…'
    """
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def headline(status: SearchStatus, begun: float = 0.0) -> str:
    """Return the state of the search as one line: stage, progress, best value, time left.

    Args:
        status: The state of the search.
        begun: The share of the budget that was used when this session began, from 0 to 1.

    Returns:
        The line.
    """
    parts = [f"{n} {state.lower()}" for state, n in sorted(status.counts.items())]
    parts += [f"{status.screened_out} screened out"] if status.screened_out else []
    left = remaining(status, begun)
    best = f"best {status.objective.metric} {status.best[2]:.2f}; " if status.best else ""
    note = f"{status.waits_for}; " if status.waits_for and parts else ""
    return (
        f"{status.stage} · {status.arm} {status.share:.0%}: "
        f"{', '.join(parts) or status.waits_for or _STARTING}; {note}{best}"
        f"{clock(status.elapsed)} gone" + (f", about {clock(left)} left" if left else "")
    )


def render(status: SearchStatus, width: int = 80, begun: float = 0.0) -> RenderableType:
    """Return the live view of one moment, each part on one line.

    Args:
        status: The state of the search.
        width: The most columns.
        begun: The share of the budget that was used when this session began, from 0 to 1.

    Returns:
        What rich is to print.
    """
    parts: list[RenderableType] = [_title(status, begun), _progress(status, width)]
    parts.append(_counts(status))
    if status.best:
        number, arch, value = status.best
        found = f"best {status.objective.metric} {value:.2f}  trial {number}  "
        parts.append(_line((found, "bold green"), arch))
    if any(rung.reached for rung in status.rungs):
        rungs = "  ".join(f"{r.step}: {r.reached} → {r.promoted}" for r in status.rungs)
        parts.append(_line((f"rungs (step: reached → promoted)  {rungs}", "dim")))
    for number, arch, step, found_value in status.running[:_ROWS]:
        shown = f"{found_value:6.2f}" if found_value is not None else "     -"
        progress = f"  {number:>5}  step {step:>3}/{status.max_step:<3} {shown}  "
        parts.append(_line((progress, "cyan"), (arch, "dim")))
    if len(status.running) > _ROWS:
        parts.append(_line((f"  … and {len(status.running) - _ROWS} more", "dim")))
    return Group(*parts)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _title(status: SearchStatus, begun: float) -> Text:
    left = remaining(status, begun)
    return _line(
        (f"{status.stage} · {status.arm}", "bold"),
        f"   {clock(status.elapsed)} gone",
        f", about {clock(left)} left" if left is not None else "",
        (f"   {status.waits_for}" if status.waits_for else "", "yellow"),
    )


def _progress(status: SearchStatus, width: int) -> Table:
    goal = f"{status.ended}/{status.target} trials" if status.target else ""
    if status.max_seconds:
        goal = f"{status.seconds:.0f}/{status.max_seconds:.0f} s of worker time"
    bar = Table.grid(padding=(0, 1))
    bar.add_column(no_wrap=True)
    bar.add_column(no_wrap=True, overflow="ellipsis")
    bar.add_row(ProgressBar(total=1.0, completed=status.share, width=max(width - 34, 10)), goal)
    return bar


def _counts(status: SearchStatus) -> Text:
    counts = Text("  ", no_wrap=True, overflow="ellipsis").join(
        Text(f"{n} {state.lower()}", style=_STYLES.get(TrialState(state), ""))
        for state, n in status.counts.items()
    )
    if not status.counts:
        counts.append("scoring candidates" if status.screened_out else _STARTING, "dim")
    aside = {
        "infeasible": status.rejected,
        "screened out": status.screened_out,
        "duplicates": status.duplicates,
    }
    if any(aside.values()):
        shown = ", ".join(f"{n} {what}" for what, n in aside.items() if n)
        counts.append(f"  ({shown})", "dim")
    return counts


class LiveView:
    """A context that shows a search four times a second, or as a line from time to time.

    It reads the search from its own thread; it never writes to it and never raises into it. What
    cannot be printed, as with output to a full disk, is left out.

    Args:
        work: The search.
        console: Where to print; None prints to standard output.
        every: Seconds between two lines, if the output is not a terminal.
    """

    def __init__(
        self, work: JobSource, console: Console | None = None, every: float = 10.0
    ) -> None:
        self._work = work
        self._console = console or data_console()
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="raynas-live", daemon=True)
        self._live: Live | None = None
        self._begun = 0.0

    def __enter__(self) -> LiveView:
        self._begun = self._work.status().share
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.stop()
            self._print(self._work.status())

    def _loop(self) -> None:
        shown = time.monotonic()
        while not self._stop.wait(0.25):
            try:
                status = self._work.status()
            except RuntimeError:  # a dictionary grew while it was read; it is read again
                continue
            with contextlib.suppress(OSError):
                if self._live is not None:
                    view = render(status, self._console.width, self._begun)
                    self._live.update(PlainData(view), refresh=True)
                elif time.monotonic() - shown >= self._every:
                    shown = time.monotonic()
                    self._print(status)

    def _print(self, status: SearchStatus) -> None:
        line = headline(status, self._begun)
        self._console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
