"""Why trials failed: messages for one failure, and the commonest of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raynas.core.errors import InfeasibleArchitecture
from raynas.core.trial import Trial, TrialState

#: how the message of a trial begins that ran out of memory
OUT_OF_MEMORY = "out of memory"
#: how the message of a trial begins whose space says that it has no network
INFEASIBLE = "infeasible: "


def failure_message(error: BaseException, where: str = "") -> tuple[str, bool]:
    """Describe what a user's code raised for one architecture.

    Args:
        error: What was raised.
        where: What was called, for the message; empty where that is clear.

    Returns:
        The message, and whether the space says that the architecture has no network: an
        :class:`~raynas.core.InfeasibleArchitecture` was raised, or is the cause of ``error``.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InfeasibleArchitecture):
            return f"{INFEASIBLE}{cause}", True
        cause = cause.__cause__
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{where}: {text}" if where else text, False


def is_failure_message(message: str) -> bool:
    """Whether a stored message of an INFEASIBLE trial tells of its evaluation, not of a bound."""
    return message.startswith((OUT_OF_MEMORY, INFEASIBLE))


def failed(trial: Trial) -> bool:
    """Whether a trial ended without a result for a reason that lies in its evaluation."""
    return trial.state is TrialState.FAILED or bool(trial.state.ended and trial.failure)


def commonest_reason(messages: Iterable[str]) -> tuple[str, int]:
    """Return the message that occurs most often, of equals the first, and how often it does."""
    counts = Counter(message.strip() or "no message was kept" for message in messages)
    return counts.most_common(1)[0] if counts else ("", 0)


def none_worked(trials: Iterable[Trial]) -> str:
    """Say that every trial of a search failed, with the commonest reason; empty if one did not.

    What bounds or a screening kept from its evaluation counts neither way.
    """
    trials = list(trials)
    messages = [trial.message for trial in trials if failed(trial)]
    works = any(not failed(t) and (t.step > 0 or not t.state.ended) for t in trials)
    return "" if works else every_trial_failed(messages)


def every_trial_failed(messages: Sequence[str]) -> str:
    """Put into words how all trials ended that failed with ``messages``; empty without any."""
    if not messages:
        return ""
    reason, count = commonest_reason(messages)
    if len(messages) == 1:
        return f"the only trial failed: {reason}"
    of_them = "all of them" if count == len(messages) else f"{count} of them"
    return f"all {len(messages)} trials failed, {of_them} with: {reason}"
