"""This module asks an autoscaler for machines, without a trial having to wait for them."""

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

#: the most reservations at once; more are made when these have got room
_MOST = 64


class AutoscalerRequest:
    """A request for machines: reservations for more trials than the machines hold.

    An autoscaler counts what waits for room. Trials could wait instead, but they would be proposals
    made without the results that come before their machines do. So reservations wait. As soon as
    there is room for one, all are withdrawn, since the room is for trials. They end with the
    driver, so that no machine is kept for a driver that has died.

    Args:
        bundle: What a trial needs, as Ray's resources.
    """

    def __init__(self, bundle: Mapping[str, float]) -> None:
        self._bundle = {kind: amount for kind, amount in bundle.items() if amount}
        self._waiting: list[Any] = []

    def ask(self, more: int) -> None:
        """Request room for more workers than the machines hold.

        Call it again and again, and only while all machines are busy: Ray tries new reservations
        before old ones.

        Args:
            more: How many more workers there are trials for; 0 or less withdraws the request. At
                most 64 are requested at once.
        """
        if more <= 0 or any(_has_room(group) for group in self._waiting):
            self.withdraw()
            return
        wanted = min(more, _MOST)
        self._shrink(wanted)
        with contextlib.suppress(RayError):  # the running trials do not need it
            while len(self._waiting) < wanted:
                self._waiting.append(placement_group([self._bundle]))

    def withdraw(self) -> None:
        """Withdraw all reservations."""
        self._shrink(0)

    def _shrink(self, wanted: int) -> None:
        while len(self._waiting) > wanted:
            remove_placement_group(self._waiting.pop())


def _has_room(group: Any) -> bool:
    return bool(placement_group_table(group).get("state") == "CREATED")
