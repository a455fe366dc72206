"""This module defines the experiment: a frozen value built from its parts.

It is usually built by a file in ``experiments/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raynas.core import Bound, Costs, Objective, UserError, unknown_option
from raynas.core.describe import describe, fingerprint, former_description
from raynas.core.fields import brief, check_fields
from raynas.core.metrics import LATENCY
from raynas.core.renamed import renamed_names, renamed_settings
from raynas.data.base import Dataset
from raynas.evaluators.abilities import bound_to, requirement_of
from raynas.evaluators.base import Evaluator
from raynas.evaluators.screen import Screen
from raynas.runners.base import Resources
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.base import Scheduler
from raynas.schedulers.none import NoStopping
from raynas.search.retention import Checkpoints
from raynas.spaces.base import SearchSpace

_NOT_PRINTED = {"fingerprint": False}
_COSTS = {cost.name for cost in dataclasses.fields(Costs)}


@dataclass(frozen=True)
class Budget:
    """The limits at which a search ends; the first one reached counts.

    Attributes:
        trials: The number of architectures to evaluate; None sets no limit.
        hours: Hours of wall time; None sets no limit.

    Raises:
        UserError: If neither is given, ``trials`` is < 1, ``hours`` is not > 0, or a value has
            another type.

    Example:
        >>> Budget(trials=64, hours=1.5).trials
        64
    """

    trials: int | None = 32
    hours: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.trials is None and self.hours is None:
            raise UserError("the budget has no limit", hint="give budget.trials or budget.hours")
        if self.trials is not None and self.trials < 1:
            raise UserError(f"budget.trials={self.trials}", expected=">= 1")
        if self.hours is not None and self.hours <= 0:
            raise UserError(f"budget.hours={self.hours}", expected="> 0")


@dataclass(frozen=True)
class Finalists:
    """The settings of the final training of the best architectures.

    The ``top`` best architectures are trained again on train + valid over ``seeds`` seeds and
    measured on the test data, which nothing else may use.

    Attributes:
        top: The number of architectures; 0 trains none.
        seeds: The number of trainings of each.
        evaluator: Trains them; None takes the search's own evaluator.
        inherited: Trains them once more, from the weights that they have in a supernet, so that the
            report can compare; None leaves that out.

    Raises:
        UserError: If ``top`` is < 0, ``seeds`` is < 1, or a value has another type.
    """

    top: int = 3
    seeds: int = 3
    evaluator: Evaluator | None = None
    inherited: Evaluator | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.top < 0:
            raise UserError(f"finalists.top={self.top}", expected=">= 0")
        if self.seeds < 1:
            raise UserError(f"finalists.seeds={self.seeds}", expected=">= 1")


@dataclass(frozen=True)
class RankingCheck:
    """The settings of a check of the search's ranking.

    Architectures from all over the search's ranking, the first and the last among them, are trained
    by ``evaluator`` and measured on the validation data. By these values the report judges the
    search's own values.

    Attributes:
        evaluator: Trains them.
        count: The number of architectures.
        seeds: The number of trainings of each.

    Raises:
        UserError: If ``count`` or ``seeds`` is < 1, or a value has another type.
    """

    evaluator: Evaluator
    count: int = 40
    seeds: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("count", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"ranking_check.{name}={getattr(self, name)}", expected=">= 1")


@renamed_settings(in_order="deterministic_workers", against="baselines", truth="ranking_check")
@dataclass(frozen=True)
class Experiment:
    """The parts and settings that make a search.

    docs/concepts.md explains the nouns. Budget, resources, checkpoints, finalists and ranking check
    may change when a run is resumed; the rest identifies the run.

    Attributes:
        space: The search space.
        data: The data set.
        evaluator: Measures architectures.
        sampler: Proposes architectures.
        name: The name of the runs; if empty, loading a file takes the name of the file.
        objectives: The metrics to optimise, the first one as the main objective.
        bounds: Limits of metrics that an architecture must keep.
        scheduler: Decides after each measurement if a trial goes on.
        screen: Scores proposals before they are evaluated and screens out the weak ones; None
            evaluates all.
        baselines: Samplers that get the same worker time as ``sampler``, for the comparison in the
            report; ``()`` leaves it out.
        seed: The seed of everything random in the search.
        deterministic_workers: 0 takes results as they come. n takes them as n workers in step would
            give them, so that one seed gives one table, with however many workers; at most n of
            them are busy.
        budget: The limits at which the search ends.
        finalists: The final training of the best architectures.
        ranking_check: Trains some of the searched architectures to judge the search; None trains
            none.
        resources: The resources of one trial.
        checkpoints: How many checkpoints are kept, and of which trials.
        smoke: The settings of ``--smoke``: path -> value.

    Raises:
        UserError: If a part has another type, a name cannot be that of a folder, there is no
            objective, an objective or bound names an unknown metric, or two samplers have one name.
    """

    space: SearchSpace
    data: Dataset
    evaluator: Evaluator
    sampler: Sampler
    name: str = ""
    objectives: tuple[Objective, ...] = (Objective(),)
    bounds: tuple[Bound, ...] = ()
    scheduler: Scheduler = field(default_factory=NoStopping)
    screen: Screen | None = None
    baselines: tuple[Sampler, ...] = field(
        default_factory=lambda: (Random(),), metadata={"stored as": "against"}
    )
    seed: int = 0
    deterministic_workers: int = field(default=0, metadata={"stored as": "in_order"})
    budget: Budget = field(default=Budget(), metadata=_NOT_PRINTED)
    finalists: Finalists = field(default=Finalists(), metadata=_NOT_PRINTED)
    ranking_check: RankingCheck | None = field(default=None, metadata=_NOT_PRINTED)
    resources: Resources = field(default=Resources(), metadata=_NOT_PRINTED)
    checkpoints: Checkpoints = field(default=Checkpoints(), metadata=_NOT_PRINTED)
    smoke: Mapping[str, object] = field(
        default_factory=dict, metadata={"fingerprint": False, "set": False}
    )

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            part = getattr(self, name)
            if isinstance(part, type):
                raise UserError(
                    f"experiment's {name} is the class {part.__name__}",
                    hint=f"write {name}={part.__name__}(...)",
                )
            if not isinstance(part, kind):
                raise UserError(
                    f"experiment's {name} is {type(part).__name__}, not a {kind.__name__}",
                    hint=f"see `raynas list` for the parts; {name}=... takes an object",
                )
        check_fields(self, unchecked=(*_PARTS, "screen", "ranking_check"))
        check_name(self.name)
        if self.deterministic_workers < 0:
            raise UserError(
                f"deterministic_workers={self.deterministic_workers}",
                expected="0 (results in the order in which they arrive) or a number of workers",
            )
        if not self.objectives:
            raise UserError("the experiment has no objectives", hint="objectives=(Objective(),)")
        if self.screen is not None and not isinstance(self.screen, Screen):
            raise UserError(
                f"experiment's screen is {type(self.screen).__name__}",
                hint="write screen=Screen(ZeroShot(proxies=(...)), keep=0.25)",
            )
        if self.ranking_check is not None and not isinstance(self.ranking_check, RankingCheck):
            raise UserError(
                f"experiment's ranking_check is {type(self.ranking_check).__name__}",
                hint="write ranking_check=RankingCheck(Retrain(...), count=40)",
            )
        known = {m.name for m in self.evaluator.metrics} | _COSTS
        screened = {m.name for m in self.screen.metrics} if self.screen else set()
        named: dict[str, tuple[tuple[Objective | Bound, ...], set[str]]] = {
            "objectives": (self.objectives, known),
            "bounds": (self.bounds, known | screened),
        }
        for place, (parts, known) in named.items():
            for part in parts:
                if part.metric not in known:
                    timed = place == "bounds" and part.metric == LATENCY.name
                    hint = "screen=Screen(MeasuredLatency(), keep=1.0) measures it" if timed else ""
                    raise unknown_option(f"metric in {place}:", part.metric, sorted(known), hint)
        names = [s.name for s in (self.sampler, *self.baselines)]
        if len(set(names)) < len(names):
            raise UserError(
                f"several samplers have the same name: {', '.join(names)}",
                hint="compare different samplers, or set baselines=()",
            )

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the experiment, equal for those whose results may be in one table.

        Returns:
            A hash of all settings that identify the run, as text.
        """
        return fingerprint(describe(self))

    @property
    def former_fingerprint(self) -> str:
        """The fingerprint that raynas 0.1 stored for runs of this experiment.

        It does not depend on the code of functions and classes; runs that have it can be resumed as
        before.

        Returns:
            A hash as text.
        """
        return fingerprint(former_description(self))

    def description(self) -> dict[str, Any]:
        """Return the whole experiment as data, which the report prints and run.json keeps.

        Returns:
            Names and values as JSON data, with the settings that may change when a run is resumed.
        """
        kept = {
            name: describe(getattr(self, name))
            for name in ("budget", "finalists", "resources", "checkpoints")
        }
        kept["truth"] = describe(self.ranking_check)
        return {**describe(self), **kept}

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """The evaluators of all stages, the search's own first.

        Returns:
            The search's own, then those of screen, ranking check and finalists, where given.
        """
        others = (
            self.screen.evaluator if self.screen else None,
            self.ranking_check.evaluator if self.ranking_check else None,
            self.finalists.evaluator,
            self.finalists.inherited,
        )
        return (self.evaluator, *(e for e in others if e is not None))

    def needs(self) -> Evaluator | None:
        """Return the evaluator that trains the weights which the experiment's evaluators work with.

        Returns:
            The training of a supernet; None if the evaluators have all weights.

        Raises:
            UserError: If they need different trainings.
        """
        found = {
            fingerprint(describe(e)): e for e in (requirement_of(e) for e in self.evaluators) if e
        }
        if len(found) > 1:
            names = ", ".join(sorted(e.name for e in found.values()))
            raise UserError(
                f"evaluators of one experiment need {len(found)} different trainings ({names})",
                hint="give them the same training",
            )
        return next(iter(found.values()), None)

    def with_prepared(self, folder: Path) -> Experiment:
        """Return the experiment with evaluators that use trained weights.

        Args:
            folder: What the evaluator of :meth:`needs` has left.

        Returns:
            A new experiment.

        Raises:
            UserError: If the weights are not there.
        """

        def ready(part: Any, *names: str) -> Any:
            have = {n: getattr(part, n) for n in names if getattr(part, n, None) is not None}
            new = {name: bound_to(evaluator, folder) for name, evaluator in have.items()}
            return dataclasses.replace(part, **new) if new else part

        return dataclasses.replace(
            self,
            evaluator=bound_to(self.evaluator, folder),
            screen=ready(self.screen, "evaluator"),
            ranking_check=ready(self.ranking_check, "evaluator"),
            finalists=ready(self.finalists, "evaluator", "inherited"),
        )


def check_name(name: str) -> None:
    """Check that the name of an experiment can be a folder below the folder of all runs.

    Args:
        name: May be empty: the file's own name takes its place. ``group/name`` is a folder in a
            folder.

    Raises:
        UserError: If the name leads elsewhere, has characters that no file name has, or is too
            long.

    Example:
        >>> check_name("digits/first_search")
    """
    parts = name.split("/") if name else []
    odd = any(part in ("", ".", "..") or part != part.strip() for part in parts)
    if odd or not name.isprintable() or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise UserError(
            f"name={brief(name)} cannot be the name of a run's folder",
            expected=f"printable characters, up to {_LONGEST_NAME} bytes; a/b for a folder in a "
            "folder, and no '..'",
            hint="name the experiment another way, as in name='first_search'",
        )


_LONGEST_NAME = 200
"""Bytes; file systems take 255, and a run's id adds some to its name."""

_PARTS: dict[str, type] = {
    "space": SearchSpace,
    "data": Dataset,
    "evaluator": Evaluator,
    "sampler": Sampler,
    "scheduler": Scheduler,
}

__getattr__ = renamed_names(__name__, Truth="RankingCheck")
