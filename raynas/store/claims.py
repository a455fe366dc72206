"""Names of the folders in which the jobs of one trial keep their files.

``0001-000012-ab12cd34ef``: session of the run, ticket of the job, id of the architecture. A later
job of the trial sorts behind an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(r"(\d{4,}-\d{6,})-(.+)")


@dataclass(frozen=True)
class Claim:
    """Whose a folder is.

    Attributes:
        job: Session and ticket, as ``Job.claim`` has them.
        arch_id: Id of the architecture.
    """

    job: str
    arch_id: str

    @property
    def name(self) -> str:
        """The name of the folder."""
        return f"{self.job}-{self.arch_id}"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts claims by session, then ticket."""
        session, _, ticket = self.job.partition("-")
        return int(session), int(ticket)

    @classmethod
    def parse(cls, name: str) -> Claim | None:
        """Return the claim of a folder, or None for any other name."""
        match = _NAME.fullmatch(name)
        return cls(match[1], match[2]) if match else None


def newest(names: Iterable[str], own: Claim | None = None) -> str | None:
    """Return the folder of the latest job among ``names``, or None.

    Args:
        names: Of folders; others are passed over.
        own: If given, only folders of its architecture and of jobs up to it count.
    """
    found = [claim for name in names if (claim := Claim.parse(name)) is not None]
    if own is not None:
        found = [c for c in found if c.arch_id == own.arch_id and c.order <= own.order]
    return max(found, key=lambda claim: claim.order).name if found else None
