"""Trainings of given architectures as work: of the supernet, of finalists, of the truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from raynas.core import Architecture, Measurement, Objective, Trial, seed_for
from raynas.runners.work import Payload, Rows, Work


class Training(Work):
    """One evaluation that others need: of a supernet, say. ``arch`` is its label.

    It is tried again where it failed before: whoever resumes the run has removed the cause.
    """

    def __init__(self, payload: Payload, rows: Rows, *, arch: Architecture, **common: Any) -> None:
        super().__init__(payload, rows, **common)
        self._arch = arch
        self._begun = bool(self._unfinished or self._best)

    @property
    def target(self) -> int | None:
        return 1

    def _more(self) -> bool:
        return bool(self._unfinished) or not self._begun

    def _propose(self) -> Trial | None:
        if self._begun:
            return None
        self._begun = True
        seed = seed_for(self.seed, self.stage)
        return Trial(self._number(), self._arch, self._arch, seed=seed)

    def _progress(self) -> float:
        step = max((t.step for t in self.trials.values() if not t.state.ended), default=0)
        return step / self.max_step


class Finals(Work):
    """Chosen architectures, each trained anew over several seeds: the finalists, which are measured
    on the test split, and others that show what the search's values are worth."""

    def __init__(
        self, payload: Payload, rows: Rows, *, finalists: Sequence[Architecture], seeds: int,
        **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(payload, rows, **common)
        wanted = [
            (arch, seed_for(self.seed, "final", k)) for arch in finalists for k in range(seeds)
        ]
        have = {(t.arch.id, t.seed) for t in self.trials.values()}
        self._todo = deque((a, s) for a, s in wanted if (a.id, s) not in have)
        self._wanted = len(wanted)

    @property
    def target(self) -> int | None:
        return self._wanted

    def _more(self) -> bool:
        return bool(self._todo or self._unfinished)

    def _propose(self) -> Trial | None:
        if not self._todo:
            return None
        arch, seed = self._todo.popleft()
        return Trial(self._number(), arch, arch, seed=seed, costs=self._costs(arch))

    def _shown(self) -> None:
        return None  # which seed does best on the test images is nobody's business

    def _required(self, objective: Objective, measurement: Measurement) -> bool:
        return measurement.step >= self.max_step  # the test images are looked at once, at the end
