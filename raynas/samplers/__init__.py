"""Samplers choose which architecture to try next, by ask and tell.

To add one, write a file in this folder and a line in ``_HOME``. Optuna is imported only in
``setup`` of a sampler that uses it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raynas.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from raynas.samplers.bohb import BOHB
    from raynas.samplers.elitist import ElitistEvolution
    from raynas.samplers.evolution import RegularizedEvolution
    from raynas.samplers.guided import Guided
    from raynas.samplers.listed import Exhaustive, Listed
    from raynas.samplers.local import LocalSearch
    from raynas.samplers.optuna import CMAES, GP, NSGA2, TPE, OptunaRandom
    from raynas.samplers.random import Random
    from raynas.samplers.reinforce import Reinforce
    from raynas.spaces.base import SearchSpace

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
    "as_optuna", "samplers",
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


def as_optuna(
    sampler: Sampler, space: SearchSpace, *, seed: int = 0, max_step: int = 1
) -> BaseSampler:
    """Return a sampler of Optuna that proposes what a sampler of raynas proposes.

    The choices of the space are the parameters of a trial, by name. The same seed and the same
    trials give the same proposals; a study that is loaded from a storage goes on where it was.

    Args:
        sampler: A sampler of raynas; it belongs to the returned one from now on.
        space: The search space.
        seed: The seed of the search.
        max_step: The last step of an evaluation, for samplers that compare curves.

    Returns:
        The sampler for ``optuna.create_study``. It raises ValueError in a study that ``sampler``
        cannot serve.

    Example:
        >>> import optuna
        >>> from raynas.core import Choice
        >>> from raynas.samplers import Guided, as_optuna
        >>> from raynas.spaces.base import SearchSpace
        >>> class Widths(SearchSpace):
        ...     name = "widths"
        ...     choices = (Choice("width", tuple(range(50)), ordered=True),)
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> study = optuna.create_study(sampler=as_optuna(Guided(), Widths()))
        >>> study.optimize(lambda t: abs(t.suggest_int("width", 0, 49) - 33), n_trials=25)
        >>> study.best_params
        {'width': 33}
    """
    from raynas.samplers.optuna_adapter import RaynasSampler

    return RaynasSampler(sampler, space, seed, max_step)
