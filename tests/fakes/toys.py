"""The toys of :mod:`raynas.testing.toys` as a user's own classes, described by their code.

Experiment files of the tests import them by this module's name.
"""

from dataclasses import dataclass

from raynas.testing import toys
from raynas.testing.toys import TEST_ACCURACY, Script, noise, quality

__all__ = [
    "TEST_ACCURACY", "Curves", "Quick", "Script", "Serial", "ToyData", "ToySpace", "noise",
    "quality",
]  # fmt: skip


@dataclass(frozen=True)
class ToySpace(toys.ToySpace):
    """A user's space."""


@dataclass
class Curves(toys.Curves):
    """A user's evaluator."""


@dataclass
class Quick(toys.Quick):
    """A user's lightweight evaluator."""


@dataclass
class Serial(toys.Serial):
    """A user's evaluator of which one runs at a time."""


@dataclass(frozen=True)
class ToyData(toys.ToyData):
    """A user's data set."""
