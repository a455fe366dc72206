"""Samplers choose which architecture to try next, by ask and tell.

To add one, write a file in this folder and a line in ``_HOME``. Optuna is imported only in
``setup`` of a sampler that uses it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raynas.samplers.base import Sampler

if TYPE_CHECKING:
    from raynas.samplers.bohb import BOHB
    from raynas.samplers.elitist import ElitistEvolution
    from raynas.samplers.evolution import RegularizedEvolution
    from raynas.samplers.guided import Guided
    from raynas.samplers.listed import Exhaustive, Listed
    from raynas.samplers.local import LocalSearch
    from raynas.samplers.optuna import CMAES, GP, NSGA2, TPE, OptunaRandom
    from raynas.samplers.random import Random
    from raynas.samplers.reinforce import Reinforce

# class -> the module of this package that has it
_HOME = {
    "Random": "random",
    "RegularizedEvolution": "evolution",
    "ElitistEvolution": "elitist",
    "Guided": "guided",
    "LocalSearch": "local",
    "Reinforce": "reinforce",
    "BOHB": "bohb",
    "TPE": "optuna",
    "NSGA2": "optuna",
    "GP": "optuna",
    "CMAES": "optuna",
    "OptunaRandom": "optuna",
    "Exhaustive": "listed",
    "Listed": "listed",
}

__all__ = [
    "BOHB", "CMAES", "GP", "NSGA2", "TPE", "ElitistEvolution", "Exhaustive", "Guided", "Listed",
    "LocalSearch", "OptunaRandom", "Random", "RegularizedEvolution", "Reinforce", "Sampler",
    "samplers",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def samplers() -> dict[str, type[Sampler]]:
    """Return every sampler of the package.

    Returns:
        Name -> class.
    """
    classes: list[type[Sampler]] = [__getattr__(name) for name in _HOME]
    return {cls.name: cls for cls in classes}
