"""The experiment: a frozen value built from the parts, usually by a file in ``experiments/``."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from raynas.core import Bound, Costs, Objective, UserError, one_of
from raynas.core.describe import describe, fingerprint, former_description
from raynas.core.fields import (
    MISFIT,
    brief,
    check_fields,
    declared_types,
    fit_any,
    is_plain,
    shown_type,
    union_members,
)
from raynas.core.metrics import LATENCY
from raynas.data.base import Dataset
from raynas.data.stand_in import available
from raynas.data.stand_in import stand_in as random_images
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
    """When the search ends. ``trials``: architectures evaluated; ``hours``: of wall time."""

    trials: int | None = 32
    hours: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
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

    ``evaluator``: trains them; None takes the search's own. ``inherited``: trains them once more,
    from the weights that they have in a supernet, so that the report can compare.
    """

    top: int = 3
    seeds: int = 3
    evaluator: Evaluator | None = None
    inherited: Evaluator | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.top < 0:
            raise UserError(f"finalists.top={self.top}", allowed=">= 0")
        if self.seeds < 1:
            raise UserError(f"finalists.seeds={self.seeds}", allowed=">= 1")


@dataclass(frozen=True)
class Truth:
    """``count`` architectures from all over the search's ranking, the first and the last among
    them, are trained by ``evaluator`` and measured on the validation images: the truth by which
    the report judges the search's own values. ``seeds``: of each.
    """

    evaluator: Evaluator
    count: int = 40
    seeds: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("count", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"truth.{name}={getattr(self, name)}", allowed=">= 1")


@dataclass(frozen=True)
class Experiment:
    """All that makes a search. See the README for the nouns.

    ``against``: samplers that get the same worker time as ``sampler``, for the comparison in the
    report; ``()`` leaves it out. ``screen``: scores proposals before they are evaluated and holds
    the weak back. ``in_order``: 0 takes results as they come; n takes them as n workers in step
    would give them, so that one seed gives one table, with however many workers (of whom n at most
    have something to do). ``truth``: trains some of what was searched, to judge the search by.
    ``checkpoints``: how many are kept, and whose. ``smoke``: path -> value, what ``--smoke`` sets.
    Budget, resources, checkpoints, finalists and truth may change when a run is resumed; the rest
    identifies it.
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
    against: tuple[Sampler, ...] = field(default_factory=lambda: (Random(),))
    seed: int = 0
    in_order: int = 0
    budget: Budget = field(default=Budget(), metadata=_NOT_PRINTED)
    finalists: Finalists = field(default=Finalists(), metadata=_NOT_PRINTED)
    truth: Truth | None = field(default=None, metadata=_NOT_PRINTED)
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
                    cure=f"write {name}={part.__name__}(...)",
                )
            if not isinstance(part, kind):
                raise UserError(
                    f"experiment's {name} is {type(part).__name__}, not a {kind.__name__}",
                    cure=f"see `raynas list` for what there is; {name}=... takes an object",
                )
        check_fields(self, unchecked=(*_PARTS, "screen", "truth"))
        check_name(self.name)
        if self.in_order < 0:
            raise UserError(
                f"in_order={self.in_order}",
                allowed="0, which takes results as they come, or a number of workers",
            )
        if not self.objectives:
            raise UserError("an experiment without objectives", cure="objectives=(Objective(),)")
        if self.screen is not None and not isinstance(self.screen, Screen):
            raise UserError(
                f"experiment's screen is {type(self.screen).__name__}",
                cure="write screen=Screen(ZeroShot(proxies=(...)), keep=0.25)",
            )
        if self.truth is not None and not isinstance(self.truth, Truth):
            raise UserError(
                f"experiment's truth is {type(self.truth).__name__}",
                cure="write truth=Truth(Retrain(...), count=40)",
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
                    cure = "screen=Screen(MeasuredLatency(), keep=1.0) measures it" if timed else ""
                    raise one_of(f"metric in {place}:", part.metric, sorted(known), cure)
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

    @property
    def former_fingerprint(self) -> str:
        """Return what raynas 0.1 stored as the fingerprint of runs of this experiment.

        It does not see the code of functions and classes; runs with it are resumed as before.
        """
        return fingerprint(former_description(self))

    def description(self) -> dict[str, Any]:
        """Everything, readable: what the report prints and run.json keeps."""
        kept = {
            name: describe(getattr(self, name))
            for name in ("budget", "finalists", "truth", "resources", "checkpoints")
        }
        return {**describe(self), **kept}

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """All that evaluate something in it, the search's own first."""
        others = (
            self.screen.evaluator if self.screen else None,
            self.truth.evaluator if self.truth else None,
            self.finalists.evaluator,
            self.finalists.inherited,
        )
        return (self.evaluator, *(e for e in others if e is not None))

    def needs(self) -> Evaluator | None:
        """What makes the weights that its evaluators work with; None when they have all.

        Raises: UserError when they need different ones.
        """
        found = {fingerprint(describe(e)): e for e in (e.needs() for e in self.evaluators) if e}
        if len(found) > 1:
            names = ", ".join(sorted(e.name for e in found.values()))
            raise UserError(
                f"evaluators of one experiment need {len(found)} different trainings ({names})",
                cure="give them one and the same training",
            )
        return next(iter(found.values()), None)

    def with_prepared(self, folder: Path) -> Experiment:
        """The experiment whose evaluators work with what :meth:`needs` has left in ``folder``.

        Raises: UserError when it is not there.
        """

        def ready(part: Any, *names: str) -> Any:
            have = {n: getattr(part, n) for n in names if getattr(part, n, None) is not None}
            new = {name: evaluator.with_prepared(folder) for name, evaluator in have.items()}
            return dataclasses.replace(part, **new) if new else part

        return dataclasses.replace(
            self,
            evaluator=self.evaluator.with_prepared(folder),
            screen=ready(self.screen, "evaluator"),
            truth=ready(self.truth, "evaluator"),
            finalists=ready(self.finalists, "evaluator", "inherited"),
        )


def check_name(name: str) -> None:
    """Check that a folder can bear the name of an experiment, below the folder of all runs.

    Args:
        name: May be empty: the file's own name takes its place. ``group/name`` is a folder in a
            folder.

    Raises:
        UserError: The name leads elsewhere, has characters that no file name has, or is too long.
    """
    parts = name.split("/") if name else []
    odd = any(part in ("", ".", "..") or part != part.strip() for part in parts)
    if odd or not name.isprintable() or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise UserError(
            f"name={brief(name)} is no name for the folder of a run",
            allowed=f"printable characters, up to {_LONGEST_NAME} bytes; a/b for a folder in a "
            "folder, and no '..'",
            cure="name the experiment another way, as in name='first_search'",
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


# -- experiment files --------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """An experiment file: the experiment, its source, and the module that workers need."""

    experiment: Experiment
    source: str
    path: Path
    module: ModuleType
    stand_in: bool = False
    """Whether random images take the place of those of the file's data set."""


def with_data(loaded: Loaded) -> Loaded:
    """Let random images stand in where the data set's files are nowhere and it declares them.

    Returns:
        ``loaded``, or one that is marked with ``stand_in``; the data set's remarks say so.

    Raises:
        UserError: The files are there, and damaged; or they are not where the user says.
    """
    data = available(loaded.experiment.data)
    if data is loaded.experiment.data:
        return loaded
    experiment = dataclasses.replace(loaded.experiment, data=data)
    return dataclasses.replace(loaded, experiment=experiment, stand_in=True)


def load(
    path: Path | str, overrides: Mapping[str, object] | None = None, *, smoke: bool = False,
    stand_in: bool = False, name: str = "", beside: Path | None = None,
) -> Loaded:  # fmt: skip
    """Run ``experiment()`` of a Python file and apply ``overrides`` (path -> value).

    ``stand_in``: random images take the place of those that the data set declares.
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
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"experiment file {str(path)!r} cannot be read: {error}",
            cure="make it readable, as UTF-8 text",
        ) from error
    module = _import_file(path, beside)
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UserError(
            f"{path.name} has no experiment()",
            cure="define `def experiment() -> Experiment:` that returns one",
        )
    with _told(path):
        found = function()
    if not isinstance(found, Experiment):
        raise UserError(
            f"experiment() of {path.name} returned {type(found).__name__}",
            allowed="an Experiment",
            cure="end it with `return Experiment(space=..., data=..., ...)`",
        )
    if not found.name:
        found = dataclasses.replace(found, name=name or path.stem)
    if smoke:
        found = apply(found, found.smoke)
    found = apply(found, overrides or {})
    if not found.name:
        raise UserError(
            "--set name=: an experiment without a name", cure="leave it out, or name it"
        )
    if stand_in:
        found = dataclasses.replace(found, data=random_images(found.data))
    return Loaded(found, source, path, module, stand_in)


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
        with _told(path):
            _remember(path)
            spec.loader.exec_module(module)
    finally:
        for folder in folders:
            sys.path.remove(folder)
    return module


def _remember(path: Path) -> None:
    """Keep the source as it is executed: fingerprints read it after the file is gone or changed."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    linecache.cache[str(path)] = (sum(map(len, lines)), None, lines, str(path))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what a user's file raises into one line that says where; UserErrors say it better."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line, problem = error.lineno, error.msg
        else:
            line, problem = _line(error, path), str(error)
        where = f"{path.name}, line {line}" if line else path.name
        raise UserError(
            f"experiment file {where}: {type(error).__name__}: {problem}",
            cure="correct it and try again",
        ) from error


def _line(error: BaseException, path: Path) -> int | None:
    """The last line of ``path`` that was at work when ``error`` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else None


# -- `--set path=value` ------------------------------------------------------------------------


def parse_overrides(texts: Sequence[str]) -> dict[str, object]:
    """``["budget.trials=8", "evaluator.recipe.lr=0.05"]`` -> path -> Python value."""
    found: dict[str, object] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--set {text!r}", allowed="path=value, as in budget.trials=8")
        found[path.strip()] = _literal(value.strip())
    return found


def _literal(text: str) -> object:
    names = {"true": True, "false": False, "none": None}
    if text.lower() in names:
        return names[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # such as {[1]}, which is no value, or a number of 5,000 digits


def apply(experiment: Experiment, overrides: Mapping[str, object]) -> Experiment:
    """Return the experiment with values replaced along dotted paths of field names.

    Each part is made once, with all that is set in it, so that what must fit together may come
    in any order.

    Args:
        experiment: Stays as it is.
        overrides: Path -> value; of two for one path, or for a part and for something in it, the
            later one counts.

    Raises:
        UserError: For unknown paths and values that do not fit, naming what would.
    """
    wanted = _Wanted()
    for path, value in overrides.items():
        wanted.add(path.split("."), path, value)
    made: Experiment = _replaced(experiment, wanted, "")
    return made


_UNSET: Final = object()


@dataclass
class _Wanted:
    """What is set in a part: a value for the whole, then values inside it, by their keys."""

    value: object = _UNSET
    told: str = ""
    inside: dict[str, _Wanted] = field(default_factory=dict)

    def add(self, keys: Sequence[str], path: str, value: object) -> None:
        if keys:
            self.inside.setdefault(keys[0], _Wanted()).add(keys[1:], path, value)
            return
        self.value, self.told, self.inside = value, path, {}

    @property
    def paths(self) -> list[str]:
        """All that the user wrote, as ``path=value``."""
        own = [] if self.value is _UNSET else [f"{self.told}={brief(self.value)}"]
        return own + [path for wanted in self.inside.values() for path in wanted.paths]

    @property
    def path(self) -> str:
        """The first of its paths, for messages."""
        return self.told or next(w.path for w in self.inside.values())


def _replaced(part: Any, wanted: _Wanted, place: str) -> Any:
    """``part``, which is found at ``place``, with all that is wanted inside it."""
    if not wanted.inside:
        return part
    if isinstance(part, tuple):
        return _replaced_items(part, wanted, place)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise UserError(
            f"--set {wanted.path}: there is nothing to set inside {place}",
            cure=f"--set {place}=VALUE",
        )
    names = [f.name for f in dataclasses.fields(part) if f.init and f.metadata.get("set", True)]
    if not names:
        raise UserError(
            f"--set {wanted.path}: {type(part).__name__} has no settings",
            cure="change the experiment file",
        )
    changes = {}
    for key, inner in wanted.inside.items():
        if key not in names:
            raise one_of(f"key in --set {inner.path}:", key, names)
        current = getattr(part, key)
        if inner.value is not _UNSET:
            current = _coerce(inner.value, declared_types(type(part))[key], current, inner.told)
        changes[key] = _replaced(current, inner, f"{place}.{key}".lstrip("."))
    return _with(part, changes, f"--set {', '.join(wanted.paths)}")


def _replaced_items(part: tuple[Any, ...], wanted: _Wanted, place: str) -> Any:
    """``against.0.n_startup``: the settings of parts in a tuple."""
    items, places = list(part), [str(i) for i in range(len(part))]
    for key, inner in wanted.inside.items():
        if key not in places:
            raise one_of(f"place in --set {inner.path}:", key, places)
        if inner.value is not _UNSET:
            raise UserError(
                f"--set {inner.told}: {type(part[int(key)]).__name__} is not a plain value",
                cure=f"set what is inside, as {inner.told}.NAME=VALUE, or change the experiment "
                "file",
            )
        items[int(key)] = _replaced(part[int(key)], inner, f"{place}.{key}")
    return tuple(items)


def _with(part: Any, changes: Mapping[str, object], told: str) -> Any:
    try:
        return dataclasses.replace(part, **changes)
    except UserError:
        raise
    except Exception as error:  # a part's own check of its settings
        raise UserError(f"{told}: {type(error).__name__}: {error}") from error


def _coerce(value: object, hint: Any, current: object, path: str) -> object:
    """``value`` as the field's type: an int passes for a float, a list for a tuple, unless the
    field may have ints and lists, too."""
    options = union_members(hint)
    fitted = fit_any(value, options)
    if fitted is not MISFIT:
        return fitted
    raise UserError(
        f"--set {path}={brief(value)}",
        allowed=" or ".join(map(shown_type, options)),
        cure=_cure(options, current, path),
    )


def _cure(options: Sequence[Any], current: object, path: str) -> str:
    """What to write instead."""
    if dataclasses.is_dataclass(current):
        names = [f.name for f in dataclasses.fields(current) if f.init]
        if names:
            return f"set what is inside, as {path}.{names[0]}=VALUE, or change the experiment file"
    if isinstance(current, tuple) and not any(map(is_plain, options)):
        return f"change the experiment file; {path}='()' leaves them out"
    if not any(map(is_plain, options)):
        return "change the experiment file"
    quotes = f"; text that looks like a number needs quotes: {path}='\"1\"'"
    return f"it is {brief(current)} now" + (quotes if str in options else "")
