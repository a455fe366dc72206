"""Asks an autoscaler for machines, without a trial having to wait for them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from raynas.runners.ray import environment

environment.prepare()  # before Ray is imported

from ray.exceptions import RayError  # noqa: E402
from ray.util.placement_group import (  # noqa: E402
    placement_group,
    placement_group_table,
    remove_placement_group,
)

#: the most that is asked for at once; when that has come, more is asked for
_MOST = 64


class Demand:
    """Room for so many more trials, reserved by nobody.

    An autoscaler counts what waits. Trials that wait would do, but they would be proposals that
    know nothing of the results until their machines come. So reservations wait instead; as soon as
    there is room for one, all are withdrawn, since the room is for trials. They end with the
    driver, so that no machine is kept for one that has died. ``bundle``: what a trial needs, as
    Ray's resources.
    """

    def __init__(self, bundle: Mapping[str, float]) -> None:
        self._bundle = {kind: amount for kind, amount in bundle.items() if amount}
        self._waiting: list[Any] = []

    def ask(self, more: int) -> None:
        """There are trials for ``more`` workers than the machines hold. To be told again and again,
        and only while all that is there is at work: Ray tries new reservations before old ones.
        """
        if more <= 0 or any(_has_room(group) for group in self._waiting):
            self.withdraw()
            return
        wanted = min(more, _MOST)
        self._shrink(wanted)
        with contextlib.suppress(RayError):  # the trials that run do not need it
            while len(self._waiting) < wanted:
                self._waiting.append(placement_group([self._bundle]))

    def withdraw(self) -> None:
        self._shrink(0)

    def _shrink(self, wanted: int) -> None:
        while len(self._waiting) > wanted:
            remove_placement_group(self._waiting.pop())


def _has_room(group: Any) -> bool:
    return bool(placement_group_table(group).get("state") == "CREATED")
