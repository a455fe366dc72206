"""This module reports machines that a cluster loses: one line for each.

What Ray itself would print goes to a file.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

_PERIOD = 2.0  # seconds between two looks at the machines
_NAMED = 8  # trials in a line
_ADDRESS = re.compile(r"\bip: (\S+)")  # in what Ray says of a dead worker
Node = Mapping[str, Any]


class LostMachines:
    """A record of machines that are lost, which reports each of them once.

    A report says which machine is lost, and which of its trials go on elsewhere.

    Args:
        tell: Is called with each line; None reports nothing.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell
        self._mutex = threading.Lock()
        self._there: dict[str, str] = {}  # id -> name of the machine for messages
        self._trials: dict[int, str] = {}  # trial -> id of the machine of its last message
        self._moved: dict[str, set[int]] = {}  # id -> trials that were there and are elsewhere
        self._gone: dict[str, str] = {}  # lost at the last look; reported at the next
        self._end: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return LostMachines, ()  # Tune pickles it with a runner, into snapshots that nobody reads

    # -- reports of the runners ----------------------------------------------------------------

    def heard(self, trial: int, node: str) -> None:
        """Note that a trial has sent a message from a machine.

        Args:
            trial: The number of the trial.
            node: Ray's id of the machine.
        """
        with self._mutex:
            before = self._trials.get(trial)
            if before is not None and before != node:
                self._moved.setdefault(before, set()).add(trial)
            self._trials[trial] = node
            self._moved.get(node, set()).discard(trial)

    def died(self, trial: int, words: str) -> None:
        """Note that the worker of a trial died.

        Args:
            trial: The number of the trial.
            words: What Ray says of the death; it may name the machine.
        """
        with self._mutex:
            known = {**self._gone, **self._there}
            found = _ADDRESS.search(words)
            for node, name in known.items():
                if node in words or (found and found[1] in re.split(r"[ ()]+", name)):
                    self._moved.setdefault(node, set()).add(trial)

    def left(self, trial: int) -> None:
        """Note that a trial needs no machine any more, or for now.

        Args:
            trial: The number of the trial.
        """
        with self._mutex:
            self._trials.pop(trial, None)
            for moved in self._moved.values():
                moved.discard(trial)

    # -- reports of Ray -------------------------------------------------------------------------

    def look(self, nodes: Sequence[Node]) -> None:
        """Compare the machines with those of the last look, and report earlier losses.

        Machines lost since the last look are reported at the next one: Ray reports the deaths of
        their workers a little later.

        Args:
            nodes: What Ray says of each machine; dead ones may be among them.
        """
        there = {n["NodeID"]: _name(n) for n in nodes if n["Alive"]}
        with self._mutex:
            lines = [self._line(node, name) for node, name in self._gone.items()]
            self._gone = {node: name for node, name in self._there.items() if node not in there}
            self._there = there
        if self._tell is not None:
            for line in lines:
                self._tell(line)

    def _line(self, node: str, name: str) -> str:
        struck = {trial for trial, place in self._trials.items() if place == node}
        trials = sorted(struck | self._moved.pop(node, set()))
        return f"machine {name} is lost: {in_words(trials)}"

    def watch(self, nodes: Callable[[], Sequence[Node]]) -> None:
        """Look every two seconds, in a thread, until :meth:`close`.

        Args:
            nodes: Returns what Ray says of each machine.
        """
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(nodes, self._end), name="raynas-machines", daemon=True
        )
        self._thread.start()

    def _watch(self, nodes: Callable[[], Sequence[Node]], end: threading.Event) -> None:
        while True:
            with contextlib.suppress(Exception):  # Ray does not answer: at the next look, perhaps
                self.look(nodes())
            if end.wait(_PERIOD):
                return

    def close(self) -> None:
        """End the thread, and report what is still to be reported; a second call does nothing."""
        if self._end is not None and self._thread is not None:
            self._end.set()
            self._thread.join()
            self._end = self._thread = None
            self.look([])
            self._there, self._gone = {}, {}


def _name(node: Node) -> str:
    """Return the machine's address, with its name if that says more."""
    address, name = str(node["NodeManagerAddress"]), str(node.get("NodeName") or "")
    return address if name in ("", address) else f"{name} ({address})"


def in_words(trials: Sequence[int]) -> str:
    """Return a sentence about the trials that go on elsewhere.

    Args:
        trials: Their numbers; the first eight are named.

    Returns:
        One sentence without a full stop.

    Example:
        >>> in_words([3, 5])
        'trials 3, 5 go on elsewhere'
    """
    if not trials:
        return "no trial was known to be there"
    shown = ", ".join(map(str, trials[:_NAMED]))
    more = f" and {len(trials) - _NAMED} more" if len(trials) > _NAMED else ""
    if len(trials) == 1:
        return f"trial {shown} goes on elsewhere"
    return f"trials {shown}{more} go on elsewhere"


class RayWords:
    """A function that appends what Ray would print of machines and workers to a file.

    When a machine dies, Ray prints the last lines of its raylet's log, about twenty.

    Args:
        file: The file; its folder is made.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mutex = threading.Lock()

    def __call__(self, data: Mapping[str, Any], *_: object, **__: object) -> None:
        """Append a message; this takes the place of Ray's own function.

        Args:
            data: Ray's message: ``lines`` and ``pid``.
            *_: Ignored.
            **__: Ignored.
        """
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        said = "\n".join(str(line) for line in data.get("lines", ()))
        # a full disk must not end the thread in which Ray listens
        with contextlib.suppress(OSError), self._mutex:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time} ({data.get('pid', 'ray')}) {said}\n")


class WordsInto:
    """A context in which Ray's messages go to a file instead of the terminal.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._own: Any = None

    def __enter__(self) -> None:
        from ray._private import worker

        self._own, worker.print_to_stdstream = worker.print_to_stdstream, RayWords(self._file)

    def __exit__(self, *_: object) -> None:
        from ray._private import worker

        worker.print_to_stdstream = self._own
