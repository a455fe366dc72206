"""The contract suite of evaluators.

Example: a test file for an evaluator of your own.

.. code-block:: python

    from dataclasses import dataclass
    from typing import ClassVar

    import pytest

    from raynas.core import Measurement
    from raynas.core.metrics import VAL_ACCURACY
    from raynas.evaluators import Evaluator
    from raynas.testing.evaluators import EvaluatorTestCase


    @dataclass
    class Widest(Evaluator):
        name: ClassVar[str] = "widest"
        max_step: int = 3

        @property
        def metrics(self):
            return (VAL_ACCURACY,)

        def setup(self, space, view):
            self._space = space

        def evaluate(self, arch, job):
            for step in range(1, job.max_step + 1):
                yield Measurement(step, {"val_accuracy": arch["width"] * step + job.seed / 100})


    class TestWidest(EvaluatorTestCase):
        @pytest.fixture
        def new_evaluator(self):
            return Widest()
"""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import time
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from torch import nn

from raynas.core import Architecture, Choice, Job, Measurement, Option
from raynas.core.describe import describe
from raynas.data.base import DataView, Images
from raynas.evaluators import Evaluator
from raynas.evaluators.abilities import check_architecture
from raynas.layers import ElasticLinear, Flatten, OneOf, Sequential
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.supernet import Supernet


@dataclass(frozen=True)
class Layers(SearchSpace):
    """The space of the suite: perceptrons with one hidden layer, and their supernet.

    Four architectures: ``width`` is 4 or 8, ``act`` is relu or tanh.
    """

    name: ClassVar[str] = "layers"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Width and activation."""
        return Choice("width", (4, 8), ordered=True), Choice("act", ("relu", "tanh"))

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> nn.Module:
        """Return the perceptron of an architecture."""
        width = int(arch["width"])
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[str(arch["act"])]()
        first = nn.Linear(int(np.prod(input_shape)), width)
        return nn.Sequential(nn.Flatten(), first, act, nn.Linear(width, num_classes))

    def supernet(self, input_shape: InputShape = (3, 32, 32), num_classes: int = 10) -> Supernet:
        """Return the supernet of the four perceptrons."""
        width, act = self.choices
        pixels = int(np.prod(input_shape))
        body = Sequential(
            Flatten(pixels // input_shape[0]),
            ElasticLinear(pixels, width),
            OneOf(act, {"relu": nn.ReLU(), "tanh": nn.Tanh()}),
            ElasticLinear(width, num_classes),
        )
        return Supernet(self, body, input_shape, num_classes)


def _images(n: int) -> Images:
    rng = np.random.default_rng(n)
    pixels = rng.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, n)
    pixels.flags.writeable = labels.flags.writeable = False  # as from shared memory
    return Images(pixels, labels)


def small_view() -> DataView:
    """Return 33 training and 20 validation images of 4 x 4 pixels, three classes."""
    return DataView(_images(33), _images(20), "val", 3, (128.0,), (74.0,))


class EvaluatorTestCase:
    """What every evaluator does. A subclass defines the fixture ``new_evaluator``.

    The evaluator is set up with the space :class:`Layers` and with :func:`small_view`; override the
    fixtures ``space``, ``view`` and ``archs`` for others.
    """

    @pytest.fixture
    def new_evaluator(self) -> Evaluator:
        """Return the evaluator to test, before its ``setup``."""
        raise NotImplementedError("define the fixture `new_evaluator` in your subclass")

    @pytest.fixture
    def depends_on_seed(self) -> bool:
        """Return whether another seed of a job gives other values."""
        return True

    @pytest.fixture
    def space(self) -> SearchSpace:
        """Return the search space."""
        return Layers()

    @pytest.fixture
    def view(self) -> DataView:
        """Return the data."""
        return small_view()

    @pytest.fixture
    def archs(self, space: SearchSpace) -> list[Architecture]:
        """Return two architectures of the space."""
        found: list[dict[str, Option]] = [
            {"width": 4, "act": "relu"},
            {"width": 4, "act": "tanh"},
            {"width": 8, "act": "tanh"},
        ]
        return [space.architecture(values) for values in found]

    @pytest.fixture
    def arch(self, archs: list[Architecture]) -> Architecture:
        """Return an architecture of the space."""
        return archs[0]

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give every pass the same processor time, to the last bit."""
        ticks = itertools.count()
        monkeypatch.setattr(time, "thread_time", lambda: next(ticks) / 1024)

    @pytest.fixture
    def evaluator(self, new_evaluator: Evaluator, space: SearchSpace, view: DataView) -> Evaluator:
        """Return the evaluator after its ``setup``."""
        new_evaluator.setup(space, view)
        return new_evaluator

    def test_it_is_a_dataclass_with_a_name_and_metrics_before_setup(
        self, new_evaluator: Evaluator
    ) -> None:
        """It is a dataclass with a name and metrics before setup."""
        assert is_dataclass(type(new_evaluator))
        assert new_evaluator.name
        names = [metric.name for metric in new_evaluator.metrics]
        assert names
        assert len(set(names)) == len(names)
        assert new_evaluator.max_step >= 1

    def test_settings_survive_setup_replace_copy_and_pickle(
        self, new_evaluator: Evaluator, arch: Architecture, space: SearchSpace, view: DataView
    ) -> None:
        """Settings survive setup replace copy and pickle."""
        before = describe(new_evaluator)
        new_evaluator.setup(space, view)
        list(new_evaluator.evaluate(arch, _job(new_evaluator)))
        assert describe(new_evaluator) == before
        settings = {f.name: getattr(new_evaluator, f.name) for f in fields(new_evaluator) if f.init}  # type: ignore[arg-type]
        assert describe(replace(new_evaluator, **settings)) == before  # type: ignore[type-var]
        assert (
            describe(copy.deepcopy(new_evaluator))
            == describe(pickle.loads(pickle.dumps(new_evaluator)))
            == before
        )

    def test_steps_rise_to_the_last_with_all_metrics_finite(
        self, evaluator: Evaluator, arch: Architecture
    ) -> None:
        """Steps rise to the last with all metrics finite."""
        rows = list(evaluator.evaluate(arch, _job(evaluator)))
        steps = [row.step for row in rows]
        assert steps == sorted(set(steps))
        assert steps[-1] == evaluator.max_step
        names = [metric.name for metric in evaluator.metrics]
        for row in rows:
            assert set(row.values) == set(names)
            assert all(type(v) is float and math.isfinite(v) for v in row.values.values())
            assert row.seconds >= 0
            assert row.bad_values(names) == []

    def test_a_shorter_job_ends_at_its_own_last_step(
        self, evaluator: Evaluator, arch: Architecture
    ) -> None:
        """A shorter job ends at its own last step."""
        whole = _curve(list(evaluator.evaluate(arch, _job(evaluator))))
        short = list(evaluator.evaluate(arch, replace(_job(evaluator), max_step=2)))
        assert _curve(short) == whole[:2]

    def test_the_same_job_gives_the_same_and_another_seed_another(
        self, evaluator: Evaluator, arch: Architecture, depends_on_seed: bool
    ) -> None:
        """The same job gives the same and another seed another."""
        first, again, other = (
            _curve(list(evaluator.evaluate(arch, _job(evaluator, seed=seed))))
            for seed in (11, 11, 12)
        )
        assert first == again
        assert (first == other) == (not depends_on_seed)

    def test_who_iterates_may_stop_at_any_step(
        self, evaluator: Evaluator, arch: Architecture
    ) -> None:
        """Who iterates may stop at any step."""
        whole = _curve(list(evaluator.evaluate(arch, _job(evaluator))))
        for stop in range(1, evaluator.max_step):
            steps = evaluator.evaluate(arch, _job(evaluator))
            head = [next(steps) for _ in range(stop)]
            steps.close()  # type: ignore[attr-defined]
            assert _curve(head) == whole[:stop]
        assert _curve(list(evaluator.evaluate(arch, _job(evaluator)))) == whole

    def test_a_second_attempt_reports_what_the_first_would_have(
        self, evaluator: Evaluator, arch: Architecture, tmp_path: Path
    ) -> None:
        """A second attempt reports what the first would have."""
        whole = _curve(list(evaluator.evaluate(arch, _job(evaluator))))
        for stop in range(1, evaluator.max_step + 1):
            job = _job(evaluator, workdir=tmp_path / str(stop))
            steps = evaluator.evaluate(arch, job)
            head = [next(steps) for _ in range(stop)]
            steps.close()  # type: ignore[attr-defined]
            tail = list(evaluator.evaluate(arch, replace(job, attempt=1)))
            assert tail[-1].step == evaluator.max_step
            assert tail[0].step <= stop + 1  # no gap
            assert dict(_curve(head)) | dict(_curve(tail)) == dict(whole)

    def test_what_was_kept_but_not_stored_is_told_again(
        self, evaluator: Evaluator, arch: Architecture, tmp_path: Path
    ) -> None:
        """What was kept but not stored is told again."""
        whole = _curve(list(evaluator.evaluate(arch, _job(evaluator))))
        for stored in range(evaluator.max_step):
            job = _job(evaluator, workdir=tmp_path / str(stored))
            list(evaluator.evaluate(arch, job))  # by a worker whose driver stored less
            tail = _curve(list(evaluator.evaluate(arch, replace(job, attempt=1, stored=stored))))
            assert tail == whole[stored:] or tail == whole  # one that keeps nothing begins anew

    def test_evaluations_may_be_interleaved(
        self, evaluator: Evaluator, archs: list[Architecture]
    ) -> None:
        """Evaluations may be interleaved."""
        alone = [_curve(list(evaluator.evaluate(a, _job(evaluator)))) for a in archs[-2:]]
        both = zip(*(evaluator.evaluate(a, _job(evaluator)) for a in archs[-2:]), strict=True)
        assert [_curve(list(rows)) for rows in zip(*both, strict=True)] == alone

    def test_check_accepts_what_can_be_evaluated(
        self, evaluator: Evaluator, arch: Architecture
    ) -> None:
        """Check accepts what can be evaluated."""
        check_architecture(evaluator, arch)


def _job(evaluator: Evaluator, workdir: Path | None = None, seed: int = 11) -> Job:
    return Job(trial=0, seed=seed, max_step=evaluator.max_step, workdir=workdir)


def _curve(measurements: list[Measurement]) -> list[tuple[int, dict[str, float]]]:
    return [(m.step, dict(m.values)) for m in measurements]
