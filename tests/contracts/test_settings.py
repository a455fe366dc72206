"""What the settings of every part must do: refuse what does not fit, and be set by ``--set``.

It goes over all that the package registers; a new part needs no line here, unless it cannot be
made without arguments.
"""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_origin

import numpy as np
import pytest
from toys import Curves, ToyData, ToySpace

from raynas.benchmarks import BENCHMARKS, NoImages, Synthetic
from raynas.core import Bound, Ensemble, Objective, UserError
from raynas.core.fields import declared_types, union_members
from raynas.core.ranks import Cascade
from raynas.data import CIFAR10, DATASETS, Arrays, StandIn
from raynas.evaluators import EVALUATORS, FunctionEvaluator, Screen, Tabular, ZeroShot
from raynas.experiment import Budget, Experiment, Finalists, RankingCheck, apply, parse_overrides
from raynas.proxies import NASWOT, proxies
from raynas.runners.base import Resources
from raynas.samplers import TPE, Random, samplers
from raynas.schedulers import schedulers
from raynas.search.retention import Checkpoints
from raynas.spaces import SPACES
from raynas.supernet.evaluation.racer import Race
from raynas.supernet.rules import Phase, Sandwich, SinglePath
from raynas.training.recipe import Recipe

IMAGES = np.zeros((20, 4, 4), np.uint8)
LABELS = np.arange(20) % 2

#: parts that cannot be made without arguments
ARGUMENTS: dict[type, Callable[[], dict[str, Any]]] = {
    ZeroShot: lambda: {"proxies": (NASWOT(),)},
    Tabular: lambda: {"benchmark": Synthetic()},
    FunctionEvaluator: lambda: {"function": len},
    Arrays: lambda: {"train_images": IMAGES, "train_labels": LABELS},
    StandIn: lambda: {"of": CIFAR10()},
    Screen: lambda: {"evaluator": ZeroShot((NASWOT(),))},
    RankingCheck: lambda: {"evaluator": Curves()},
    Phase: lambda: {"epoch": 1, "opens": "width"},
    Bound: lambda: {"metric": "params"},
    Ensemble: lambda: {"parts": ("params",)},
    Cascade: lambda: {"first": Ensemble(("params",)), "then": Ensemble(("macs",))},
    Experiment: lambda: {
        "space": ToySpace(), "data": ToyData(), "evaluator": Curves(), "sampler": TPE()
    },
}  # fmt: skip

REGISTERED: list[type] = [
    *samplers().values(), *schedulers().values(), *EVALUATORS.values(), *SPACES.values(),
    *DATASETS.values(), *BENCHMARKS.values(), *proxies().values(),
]  # fmt: skip
OTHERS: list[type] = [
    Experiment,
    Budget,
    Finalists,
    RankingCheck,
    Screen,
    Resources,
    Checkpoints,
    Recipe,
    Race,
    Phase,
    Sandwich,
    SinglePath,
    Objective,
    Bound,
    Ensemble,
    Cascade,
    NoImages,
]
PARTS = [*REGISTERED, *OTHERS]


def settings(part: type) -> Iterator[dataclasses.Field[Any]]:
    assert dataclasses.is_dataclass(part), f"{part.__name__} is no dataclass"
    return (f for f in dataclasses.fields(part) if f.init and f.metadata.get("set", True))


FIELDS = [pytest.param(part, f.name, id=f"{part.__module__.split('.')[1]}.{part.__name__}.{f.name}")
          for part in PARTS for f in settings(part)]  # fmt: skip


def made(part: type, **changed: Any) -> Any:
    arguments = ARGUMENTS.get(part, dict)()
    return part(**{**arguments, **changed})


class Foreign:
    """Of no type that a field declares."""


def misfits(part: type, name: str) -> Iterator[object]:
    """Values that are of no type of the field."""
    kinds = union_members(declared_types(part)[name])
    origins = {get_origin(kind) or kind for kind in kinds}
    yield Foreign()
    if type(None) not in origins:
        yield None
    if not origins & {str, Path, Literal}:
        yield "abc"
    if not origins & {int, float} and bool not in origins:
        yield 7
    if bool not in origins:
        yield True
    if origins & {int, float}:
        yield from (math.nan, 10**400, "3")
    if int in origins and float not in origins:
        yield 2.5
    if tuple in origins:
        yield (Foreign(),)


@pytest.mark.parametrize(("part", "name"), FIELDS)
def test_a_field_refuses_what_is_of_another_type(part: type, name: str) -> None:
    for value in misfits(part, name):
        with pytest.raises(UserError) as raised:
            made(part, **{name: value})
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 700


def written(current: Any) -> str | None:
    """A text for ``--set`` that says what the field has; None for what is no plain value."""
    if isinstance(current, str | Path):
        return repr(str(current))
    if isinstance(current, tuple):
        texts = [written(item) for item in current]
        return None if None in texts else f"[{', '.join(map(str, texts))}]"
    return repr(current) if isinstance(current, bool | int | float | None) else None


def holder(part: type, **changed: Any) -> tuple[Experiment, str]:
    """An experiment with such a part in it, and the path to the part."""
    if part is Experiment:
        return made(Experiment, **changed), ""
    experiment = dataclasses.replace(made(Experiment), evaluator=Holding(part=made(part)))
    return experiment, "evaluator.part."


def refusal(experiment: Experiment, text: str) -> str:
    """Why ``--set`` refuses it; empty where it does not."""
    try:
        apply(experiment, parse_overrides([text]))
    except UserError as error:
        return str(error)
    return ""


@dataclasses.dataclass
class Holding(Curves):
    part: Any = None


@pytest.mark.parametrize(("part", "name"), FIELDS)
def test_set_converts_and_checks_each_field(part: type, name: str) -> None:
    experiment, place = holder(part)
    kind = declared_types(part)[name]
    current = getattr(made(part), name)
    origins = {get_origin(k) or k for k in union_members(kind)}
    hostile = ["{[1]}", "9" * 400, "9" * 5000, "[" * 300]
    if not origins & {str, Path}:
        hostile.append("abc")
    for text in hostile:
        message = refusal(experiment, f"{place}{name}={text}")
        assert message or origins & {str, Path}
        assert "\n" not in message
        assert len(message) < 900
    text = written(current)
    if text is None or current in (math.inf, -math.inf):
        return
    found: Any = apply(experiment, parse_overrides([f"{place}{name}={text}"]))
    for key in f"{place}{name}".split("."):
        found = getattr(found, key)
    assert found == current
    if current is not None and Literal not in origins:
        assert type(found) in origins


def test_every_setting_of_every_part_has_a_type() -> None:
    for part in PARTS:
        for name in (field.name for field in settings(part)):
            assert declared_types(part)[name] is not object, f"{part.__name__}.{name}"


def test_a_text_becomes_a_path_where_the_field_wants_one() -> None:
    inherited = EVALUATORS["inherited"](weights="some/where")  # type: ignore[call-arg]
    assert inherited.weights == Path("some/where")  # type: ignore[attr-defined]
    experiment = dataclasses.replace(made(Experiment), evaluator=inherited)
    found = apply(experiment, parse_overrides(["evaluator.weights=/else"])).evaluator
    assert found.weights == Path("/else")  # type: ignore[attr-defined]


def test_numbers_of_numpy_become_those_of_python() -> None:
    sampler = TPE(n_startup=np.int64(3))  # type: ignore[arg-type]
    assert type(sampler.n_startup) is int
    assert type(Recipe(batch_size=np.int32(16)).batch_size) is int  # type: ignore[arg-type]


def test_settings_are_checked_without_optuna_and_torch() -> None:
    """What a field declares is looked up without the packages that its module needs to work."""
    code = (
        "import sys; from raynas.samplers import samplers;"
        "[cls() for name, cls in samplers().items()];"
        "from raynas.evaluators import Retrain, Inherited, TrainSupernet; Retrain(); Inherited();"
        "print(sorted({'optuna', 'torch', 'ray'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_random_has_none() -> None:
    assert not list(settings(Random))
