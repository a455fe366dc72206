"""This module has the payload of workers, as it lies in Ray's object store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raynas.evaluators.base import Evaluator
from raynas.spaces.base import SearchSpace


@dataclass(frozen=True)
class SharedContext:
    """A payload on its way to workers.

    Images and the evaluator's assets stay in the object store, one copy on each machine.

    Attributes:
        space: The search space.
        evaluator: The evaluator, not set up yet.
        view: A reference to the data view.
        assets: A reference to the evaluator's assets; None if it has none.
        version: The version of the assets, if they may change during the search.
    """

    space: SearchSpace
    evaluator: Evaluator
    view: Any
    assets: Any = None
    version: str = ""
