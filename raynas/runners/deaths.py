"""What is said about a worker that died, and who is to blame. The same words for every lane."""

from __future__ import annotations

from raynas.core import UserError

_KILLED = "it was killed (was memory short?), it crashed, or its machine is gone"


def cause(text: str) -> tuple[bool, str]:
    """Whether the worker died while it was set up, and why, in one line.

    ``text``: what Ray says of the death, or nothing.
    """
    text = text.strip()
    if "worker process has died" in text or "died unexpectedly" in text or not text:
        return False, _KILLED
    return "creation task" in text, text.splitlines()[-1]


def died(times: int, reason: str) -> str:
    """The message of a trial that is given up."""
    return f"its worker died {'once' if times == 1 else f'{times} times'}: {reason}"


def no_setup(reason: str) -> UserError:
    """No fault of a trial: what ran stays RUNNING, to be resumed."""
    return UserError(
        f"workers cannot be set up: {reason}",
        cure="look for what differs between this process and the workers, then "
        "`raynas resume` goes on",
    )
