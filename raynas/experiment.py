"""The experiment: a frozen value built from the parts, usually by a file in ``experiments/``."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from raynas.core import Bound, Objective, UserError, one_of
from raynas.core.describe import describe, fingerprint
from raynas.data.base import Dataset
from raynas.evaluators.base import Evaluator
from raynas.runners.base import Resources
from raynas.samplers.base import Sampler
from raynas.samplers.random import Random
from raynas.schedulers.base import Scheduler
from raynas.schedulers.none import NoStopping
from raynas.spaces.base import SearchSpace

_NOT_PRINTED = {"fingerprint": False}


@dataclass(frozen=True)
class Budget:
    """When the search ends. ``trials``: architectures evaluated; ``hours``: of wall time."""

    trials: int | None = 32
    hours: float | None = None

    def __post_init__(self) -> None:
        if self.trials is None and self.hours is None:
            raise UserError("a budget without an end", cure="give budget.trials or budget.hours")
        if self.trials is not None and self.trials < 1:
            raise UserError(f"budget.trials={self.trials}", allowed=">= 1")
        if self.hours is not None and self.hours <= 0:
            raise UserError(f"budget.hours={self.hours}", allowed="> 0")


@dataclass(frozen=True)
class Finalists:
    """The ``top`` best architectures are trained again on train + valid over ``seeds`` seeds and
    measured on the test images, which nothing else may see. ``top=0`` leaves that out.

    ``evaluator``: trains them; None takes the search's own.
    """

    top: int = 3
    seeds: int = 3
    evaluator: Evaluator | None = None

    def __post_init__(self) -> None:
        if self.top < 0:
            raise UserError(f"finalists.top={self.top}", allowed=">= 0")
        if self.seeds < 1:
            raise UserError(f"finalists.seeds={self.seeds}", allowed=">= 1")


@dataclass(frozen=True)
class Experiment:
    """All that makes a search. See the README for the nouns.

    ``against``: samplers that get the same worker time as ``sampler``, for the comparison in the
    report; ``()`` leaves it out. ``smoke``: path -> value, what ``--smoke`` sets.
    Budget, resources and finalists may change when a run is resumed; the rest identifies it.
    """

    space: SearchSpace
    data: Dataset
    evaluator: Evaluator
    sampler: Sampler
    name: str = ""
    objectives: tuple[Objective, ...] = (Objective(),)
    bounds: tuple[Bound, ...] = ()
    scheduler: Scheduler = field(default_factory=NoStopping)
    against: tuple[Sampler, ...] = field(default_factory=lambda: (Random(),))
    seed: int = 0
    budget: Budget = field(default=Budget(), metadata=_NOT_PRINTED)
    finalists: Finalists = field(default=Finalists(), metadata=_NOT_PRINTED)
    resources: Resources = field(default=Resources(), metadata=_NOT_PRINTED)
    smoke: Mapping[str, object] = field(default_factory=dict, metadata=_NOT_PRINTED)

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            part = getattr(self, name)
            if not isinstance(part, kind):
                raise UserError(
                    f"experiment's {name} is {type(part).__name__}, not a {kind.__name__}",
                    cure=f"see `raynas list` for what there is; {name}=... takes an object",
                )
        if not self.objectives:
            raise UserError("an experiment without objectives", cure="objectives=(Objective(),)")
        known = {m.name for m in self.evaluator.metrics} | {"params", "macs"}
        for metric in [*(o.metric for o in self.objectives), *(b.metric for b in self.bounds)]:
            if metric not in known:
                raise one_of("metric", metric, sorted(known))
        arms = [s.name for s in (self.sampler, *self.against)]
        if len(set(arms)) < len(arms):
            raise UserError(
                f"two samplers of one name: {', '.join(arms)}",
                cure="compare different samplers, or set against=()",
            )

    @property
    def fingerprint(self) -> str:
        """Equal for experiments whose results may stand in one table."""
        return fingerprint(describe(self))

    def description(self) -> dict[str, Any]:
        """Everything, readable: what the report prints and run.json keeps."""
        kept = {
            name: describe(getattr(self, name)) for name in ("budget", "finalists", "resources")
        }
        return {**describe(self), **kept}


_PARTS: dict[str, type] = {
    "space": SearchSpace,
    "data": Dataset,
    "evaluator": Evaluator,
    "sampler": Sampler,
    "scheduler": Scheduler,
}


# -- experiment files --------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """An experiment file: the experiment, its source, and the module that workers need."""

    experiment: Experiment
    source: str
    path: Path
    module: ModuleType


def load(
    path: Path | str, overrides: Mapping[str, object] | None = None, *, smoke: bool = False,
    name: str = "", beside: Path | None = None,
) -> Loaded:  # fmt: skip
    """Run ``experiment()`` of a Python file and apply ``overrides`` (path -> value).

    ``name``: of the experiment where the file gives none; the file's own name if empty.
    ``beside``: a folder from which the file may import too (where it lay when the run began).
    Raises: UserError when there is no such file, no ``experiment()``, or it fails or returns
    something else; unknown override paths.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise UserError(
            f"no experiment file {str(path)!r}", cure="give a .py file, as in experiments/"
        )
    if path.suffix != ".py":
        raise UserError(f"experiment file {path.name!r}", allowed="a Python file, *.py")
    source = path.read_text()
    module = _import_file(path, beside)
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UserError(
            f"{path.name} has no experiment()",
            cure="define `def experiment() -> Experiment:` that returns one",
        )
    try:
        found = function()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"experiment() of {path.name} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Experiment):
        raise UserError(
            f"experiment() of {path.name} returned {type(found).__name__}", allowed="an Experiment"
        )
    if not found.name:
        found = dataclasses.replace(found, name=name or path.stem)
    if smoke:
        found = apply(found, found.smoke)
    return Loaded(apply(found, overrides or {}), source, path, module)


def _import_file(path: Path, beside: Path | None) -> ModuleType:
    name = f"raynas_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    folders = [str(folder) for folder in (beside, path.parent) if folder and folder.is_dir()]
    sys.modules[name] = module
    sys.path[:0] = folders
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{path.name}{line}: {type(error).__name__}: {error}") from error
    finally:
        for folder in folders:
            sys.path.remove(folder)
    return module


# -- `--set path=value` ------------------------------------------------------------------------


def parse_overrides(texts: Sequence[str]) -> dict[str, object]:
    """``["budget.trials=8", "evaluator.recipe.lr=0.05"]`` -> path -> Python value."""
    found: dict[str, object] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(f"--set {text!r}", allowed="path=value, as in budget.trials=8")
        found[path.strip()] = _literal(value.strip())
    return found


def _literal(text: str) -> object:
    names = {"true": True, "false": False, "none": None}
    if text.lower() in names:
        return names[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def apply(experiment: Experiment, overrides: Mapping[str, object]) -> Experiment:
    """The experiment with values replaced along dotted paths of field names."""
    for path, value in overrides.items():
        experiment = _replace(experiment, path.split("."), value, path)
    return experiment


def _replace(part: Any, keys: list[str], value: object, path: str) -> Any:
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise UserError(
            f"--set {path}: {keys[0]!r} has nothing to set inside, it is {type(part).__name__}"
        )
    names = [f.name for f in dataclasses.fields(part) if f.init]
    if keys[0] not in names:
        raise one_of(f"key in --set {path!r}", keys[0], names)
    current = getattr(part, keys[0])
    if len(keys) > 1:
        new = _replace(current, keys[1:], value, path)
    else:
        new = _coerce(value, _hint(type(part), keys[0]), path)
    return dataclasses.replace(part, **{keys[0]: new})


def _hint(owner: type, name: str) -> Any:
    try:
        return typing.get_type_hints(owner).get(name, object)
    except Exception:  # a user's class with names that only its type checker knows
        return inspect.get_annotations(owner).get(name, object)


def _coerce(value: object, hint: Any, path: str) -> object:
    """``value`` as the field's type; an int passes for a float, a list for a tuple."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        fitted = _fit(value, option)
        if fitted is not _MISFIT:
            return fitted
    shown = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise UserError(f"--set {path}={value!r}", allowed=shown.replace("NoneType", "none"))


def _is_union(hint: Any) -> bool:
    import types

    return typing.get_origin(hint) in (typing.Union, types.UnionType)


_MISFIT = object()


def _fit(value: object, kind: Any) -> object:
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return value if value in typing.get_args(kind) else _MISFIT
    if origin is type(None):
        return None if value is None else _MISFIT
    if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if origin is Path and isinstance(value, str):
        return Path(value)
    if origin is tuple and isinstance(value, tuple | list):
        return tuple(value)
    if origin in (int, str, bool):
        if origin is int and isinstance(value, bool):
            return _MISFIT
        return value if isinstance(value, origin) else _MISFIT
    if isinstance(origin, type):
        return value if isinstance(value, origin) else _MISFIT
    return value
