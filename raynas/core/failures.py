"""This module has the messages of failed trials, and the most common of many messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raynas.core.errors import InfeasibleArchitecture
from raynas.core.trial import Trial, TrialState

#: the beginning of the message of a trial that ran out of memory
OUT_OF_MEMORY = "out of memory"
#: the beginning of the message of a trial whose architecture has no network
INFEASIBLE = "infeasible: "


def failure_message(error: BaseException, where: str = "") -> tuple[str, bool]:
    """Describe an error that a user's code raised for one architecture.

    Args:
        error: The error that was raised.
        where: The function that was called, for the message; empty where that is clear.

    Returns:
        The message, and True when the space says that the architecture has no network: an
            :class:`~raynas.core.InfeasibleArchitecture` was raised, or is the cause of ``error``.

    Example:
        >>> failure_message(ValueError("no image"), "build()")
        ('build(): ValueError: no image', False)
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InfeasibleArchitecture):
            return f"{INFEASIBLE}{cause}", True
        cause = cause.__cause__
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{where}: {text}" if where else text, False


def is_failure_message(message: str) -> bool:
    """Return True when a stored message describes a failed evaluation and not a broken bound.

    Args:
        message: The message of an INFEASIBLE trial.

    Returns:
        True for running out of memory and for an architecture without a network.
    """
    return message.startswith((OUT_OF_MEMORY, INFEASIBLE))


def failed(trial: Trial) -> bool:
    """Return True when a trial ended without a result because of its evaluation.

    Args:
        trial: A trial in any state.

    Returns:
        True for a FAILED trial, and for an ended one with a ``failure``.
    """
    return trial.state is TrialState.FAILED or bool(trial.state.ended and trial.failure)


def commonest_reason(messages: Iterable[str]) -> tuple[str, int]:
    """Return the most frequent message and its count.

    Args:
        messages: The messages of failed trials; an empty one counts as "no message was kept".

    Returns:
        The message, the first one of equally frequent ones, and how often it occurs; ("", 0)
            without messages.

    Example:
        >>> commonest_reason(["out of memory", "no data", "out of memory"])
        ('out of memory', 2)
    """
    counts = Counter(message.strip() or "no message was kept" for message in messages)
    return counts.most_common(1)[0] if counts else ("", 0)


def none_worked(trials: Iterable[Trial]) -> str:
    """Describe the failure of all trials of a search, with the most common reason.

    A trial that a bound or a screening ended before its evaluation counts neither way.

    Args:
        trials: All trials of the search.

    Returns:
        The description; empty when a trial worked or is running, or when none failed.
    """
    trials = list(trials)
    messages = [trial.message for trial in trials if failed(trial)]
    works = any(not failed(t) and (t.step > 0 or not t.state.ended) for t in trials)
    return "" if works else every_trial_failed(messages)


def every_trial_failed(messages: Sequence[str]) -> str:
    """Describe the end of a search whose trials all failed.

    Args:
        messages: One message per trial.

    Returns:
        The description; empty without messages.
    """
    if not messages:
        return ""
    reason, count = commonest_reason(messages)
    if len(messages) == 1:
        return f"the only trial failed: {reason}"
    of_them = "all of them" if count == len(messages) else f"{count} of them"
    return f"all {len(messages)} trials failed, {of_them} with: {reason}"
