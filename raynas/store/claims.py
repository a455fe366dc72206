"""This module names the folders in which the jobs of one trial keep their files.

``0001-000012-ab12cd34ef`` is: session of the run, ticket of the job, id of the architecture. A
later job of the trial sorts behind an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(r"(\d{4,}-\d{6,})-(.+)")


@dataclass(frozen=True)
class FolderClaim:
    """The owner of a folder: a job and the architecture that it evaluates.

    Attributes:
        job: Session and ticket, in the form of ``Job.claim``.
        arch_id: The id of the architecture.

    Example:
        >>> FolderClaim.parse("0001-000012-ab12cd34ef").order
        (1, 12)
    """

    job: str
    arch_id: str

    @property
    def name(self) -> str:
        """The name of the folder."""
        return f"{self.job}-{self.arch_id}"

    @property
    def order(self) -> tuple[int, int]:
        """The key that sorts claims by time.

        Returns:
            (session, ticket).
        """
        session, _, ticket = self.job.partition("-")
        return int(session), int(ticket)

    @classmethod
    def parse(cls, name: str) -> FolderClaim | None:
        """Return the claim that a folder name states.

        Args:
            name: The name of a folder.

        Returns:
            The claim, or None for any other name.
        """
        match = _NAME.fullmatch(name)
        return cls(match[1], match[2]) if match else None


def newest(names: Iterable[str], own: FolderClaim | None = None) -> str | None:
    """Return the folder of the latest job.

    Args:
        names: Names of folders. Those that are not claims are ignored.
        own: If given, only folders of its architecture, and of jobs up to it, count.

    Returns:
        The name of the folder, or None if no name counts.
    """
    found = [claim for name in names if (claim := FolderClaim.parse(name)) is not None]
    if own is not None:
        found = [c for c in found if c.arch_id == own.arch_id and c.order <= own.order]
    return max(found, key=lambda claim: claim.order).name if found else None
