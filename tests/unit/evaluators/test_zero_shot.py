"""Scores as an evaluator gives them to a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from raynas.core import Architecture, Job, Measurement, Objective, RaynasError, UserError
from raynas.data import Digits
from raynas.data.base import DataView, Images
from raynas.evaluators import ZeroShot
from raynas.experiment import Experiment
from raynas.proxies import NASWOT, SNIP, TENAS, L2Norm, MACs, Params, Probe, Proxy, ZenScore
from raynas.samplers import Random
from raynas.spaces import NASBench201

SPACE = NASBench201(channels=4, cells=1)
WHOLE = SPACE.architecture(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
)
OTHER = SPACE.architecture(
    "|nor_conv_1x1~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"
)
UNREACHABLE = SPACE.architecture("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
JOB = Job(trial=0, seed=5, max_step=1)


def make_view(count: int = 30) -> DataView:
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    images = Images(pixels, rng.integers(0, 4, count))
    return DataView(images, images, "val", 4, (128.0,) * 3, (70.0,) * 3)


def ready(evaluator: ZeroShot) -> ZeroShot:
    evaluator.setup(SPACE, make_view())
    return evaluator


def one(evaluator: ZeroShot, arch: Architecture = WHOLE, job: Job = JOB) -> Measurement:
    (measurement,) = evaluator.evaluate(arch, job)
    return measurement


def test_costs_are_no_scores_since_every_search_has_them() -> None:
    evaluator = ready(ZeroShot((Params(), NASWOT(), MACs(), TENAS(4, 20)), batch=12))
    names = ["naswot", "tenas_ntk", "tenas_regions"]
    assert [m.name for m in evaluator.metrics] == names
    found = one(evaluator)
    assert found.step == 1 == evaluator.max_step
    assert found.bad_values(names) == []
    assert set(found.values) == set(names)
    assert found.note == ""
    assert found.seconds > 0


def test_missing_scores_are_remarks_and_the_others_stay() -> None:
    found = one(ready(ZeroShot((NASWOT(), SNIP(), ZenScore(4), L2Norm()), batch=12)), UNREACHABLE)
    assert set(found.values) == {"l2_norm"}
    assert found.note == (
        "no naswot, snip: no path from input to output: all images get the same logits; "
        "no zen: no path from input to output: the feature map does not change"
    )


@dataclass(frozen=True)
class Spy(Proxy):
    """Takes down what it is shown."""

    name: ClassVar[str] = "spy"
    seen: ClassVar[list[tuple[Any, int]]] = []

    def measure(self, probe: Probe) -> float:
        self.seen.append((probe.batch.images.clone(), probe.seed))
        return 1.0


def test_every_architecture_sees_the_same_images_and_seeds_draw_weights_only() -> None:
    Spy.seen.clear()
    evaluator = ready(ZeroShot((Spy(),), batch=9))
    for arch, seed in ((WHOLE, 1), (OTHER, 1), (WHOLE, 2)):
        one(evaluator, arch, replace(JOB, seed=seed))
    one(ready(ZeroShot((Spy(),), batch=9)), WHOLE, JOB)  # another worker
    images, seeds = zip(*Spy.seen, strict=True)
    assert seeds == (1, 1, 2, 5)
    assert images[0].shape == (9, 3, 8, 8)
    assert all(torch.equal(i, images[0]) for i in images)


def test_the_seed_of_the_job_is_all_that_counts() -> None:
    evaluator = ready(ZeroShot((NASWOT(), SNIP(), ZenScore(4)), batch=12))
    found = []
    for seed, noise in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        found.append(one(evaluator, job=replace(JOB, seed=seed, trial=noise)).values)
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0] == found[1]
    assert all(found[0][name] != found[2][name] for name in found[0])


def test_latency_is_a_column_when_asked_for() -> None:
    evaluator = ready(ZeroShot((L2Norm(),), batch=4, latency=2))
    assert [m.name for m in evaluator.metrics] == ["l2_norm", "latency_ms"]
    found = one(evaluator)
    assert found.bad_values(["l2_norm", "latency_ms"]) == []
    assert 0 < found.values["latency_ms"] < 10_000


@pytest.mark.parametrize(
    ("proxies", "message"),
    [
        ((), "no proxies"),
        ((NASWOT,), "NASWOT is not a proxy object"),
        (NASWOT(), "proxies is not a sequence"),
        ((NASWOT(), NASWOT()), "two proxies give naswot"),
    ],
)
def test_proxies_that_cannot_stand_together_are_refused_at_once(proxies: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ZeroShot(proxies)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="a batch of 31 images from 30"):
        ready(ZeroShot((NASWOT(),), batch=31))


def test_it_is_of_no_use_before_setup() -> None:
    for use in (lambda z: one(z), lambda z: z.check(WHOLE)):
        with pytest.raises(RaynasError, match="before setup"):
            use(ZeroShot((NASWOT(),)))


def test_check_builds_the_network() -> None:
    ready(ZeroShot((NASWOT(),), batch=4)).check(WHOLE)


def test_an_experiment_takes_scores_as_objectives() -> None:
    def experiment(metric: str) -> Experiment:
        return Experiment(
            space=SPACE,
            data=Digits(),
            evaluator=ZeroShot((NASWOT(), TENAS())),
            sampler=Random(),
            baselines=(),
            objectives=(Objective(metric),),
        )

    assert experiment("tenas_ntk").objectives[0].metric == "tenas_ntk"
    with pytest.raises(UserError, match=r"'naswott'.*did you mean 'naswot'"):
        experiment("naswott")
