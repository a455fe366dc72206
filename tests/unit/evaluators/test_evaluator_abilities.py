"""What an evaluator may do is asked for, and one of raynas 0.1 answers by the old names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from toys import ToyData

from raynas.core import Architecture, Job, Measurement, Metric, UserError
from raynas.core.metrics import VAL_ACCURACY
from raynas.data.base import DataView
from raynas.evaluators import Evaluator, Inherited, MeasuredLatency, Retrain
from raynas.evaluators import abilities as ask
from raynas.spaces import NASBench201
from raynas.spaces.base import SearchSpace

SPACE = NASBench201()
ARCH = SPACE.extremes()[0]
JOBS = [Job(trial=n, seed=n, max_step=1) for n in range(2)]


class Bare(Evaluator):
    """The required methods only."""

    name = "bare"
    metrics = (VAL_ACCURACY,)
    max_step = 1

    def setup(self, space: SearchSpace, view: DataView) -> None: ...

    def evaluate(self, arch: Architecture, job: Job) -> Iterator[Measurement]:
        if job.seed:
            raise UserError("no")
        yield Measurement(1, {VAL_ACCURACY.name: 50.0}, 0.5)


def test_without_an_ability_there_is_a_default(tmp_path: Path) -> None:
    bare, view = Bare(), ToyData().search_view(0)
    ask.check_architecture(bare, ARCH)
    ask.load_assets(bare, {"w": np.zeros(1)})
    assert ask.remarks_of(bare) == ()
    assert ask.assets_of(bare) == {}
    assert ask.memory_of(bare, ARCH, SPACE, view) is None
    assert ask.trained_network(bare, ARCH, tmp_path) is None
    assert ask.requirement_of(bare) is ask.weights_version_of(bare) is None
    assert ask.bound_to(bare, tmp_path) is bare
    assert ask.final_metrics_of(bare) == bare.metrics
    assert ask.no_test_reason_of(bare) == ""
    first, ended, (index, error) = ask.evaluate_many(bare, [ARCH, ARCH], JOBS)
    assert (first[0], ended, index, str(error)) == (0, (0, None), 1, "no")


def test_an_evaluator_of_raynas_0_1_keeps_working(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning) as warned:

        @dataclass
        class Old(Bare):
            quick: ClassVar[bool] = True
            serial: bool = False
            crowd: int = 4
            weights: Any = None

            def needs(self) -> Evaluator | None:
                return Bare() if self.weights is None else None

            def with_prepared(self, folder: Path) -> Evaluator:
                return Old(weights=folder)

            def equip(self, assets: Mapping[str, Any]) -> None:
                self.weights = assets

            def remarks(self) -> tuple[str, ...]:
                return ("old",)

            @property
            def final_metrics(self) -> tuple[Metric, ...]:
                return (VAL_ACCURACY, VAL_ACCURACY)

    assert [str(w.message).split(";")[0] for w in warned] == [
        "Old.quick is now Old.lightweight",
        "Old.serial is now Old.exclusive",
        "Old.crowd is now Old.preferred_batch",
        "Old.needs is now Old.requires",
        "Old.with_prepared is now Old.bind_weights",
        "Old.equip is now Old.load_assets",
    ]
    assert {w.filename for w in warned} == {__file__}
    old = Old(serial=True, crowd=9)
    assert (Old.lightweight, old.exclusive, old.preferred_batch) == (True, True, 9)
    assert isinstance(ask.requirement_of(old), Bare)
    bound = ask.bound_to(old, tmp_path)
    assert isinstance(bound, Old)
    assert bound.weights == tmp_path
    assert ask.requirement_of(bound) is None
    ask.load_assets(old, {"w": 1})
    assert old.weights == {"w": 1}
    assert ask.remarks_of(old) == ("old",)
    assert len(ask.final_metrics_of(old)) == 2


def test_old_names_of_the_evaluators_of_raynas_warn() -> None:
    with pytest.warns(FutureWarning, match=r"Inherited\(preferred_batch=\.\.\.\)"):
        inherited = Inherited(crowd=3)
    with pytest.warns(FutureWarning, match=r"Inherited\.crowd is now"):
        assert inherited.crowd == 3  # type: ignore[attr-defined]
    with pytest.warns(FutureWarning, match=r"Inherited\.needs is now Inherited\.requires"):
        assert inherited.needs() is inherited.training  # type: ignore[attr-defined]
    with pytest.warns(FutureWarning, match=r"MeasuredLatency\.serial is now"):
        assert MeasuredLatency().serial  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Retrain' object has no attribute 'requires'"):
        Retrain().requires()  # type: ignore[attr-defined]
