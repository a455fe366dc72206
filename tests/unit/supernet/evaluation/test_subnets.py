"""Many subnets measured at once: exactly as each alone, and raced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_supernet import Tiny, tiny_view

from raynas.core import Architecture, UserError
from raynas.spaces import ElasticResNet
from raynas.spaces.base import SearchSpace
from raynas.supernet.calibration import calibration_batches, recalibrate
from raynas.supernet.evaluation import subnets as module
from raynas.supernet.evaluation.measurements import Looks, SubnetMeasurement
from raynas.supernet.evaluation.race import Race, RaceCourse, run_heat
from raynas.supernet.evaluation.racer import SubnetRacer
from raynas.supernet.evaluation.subnets import SubnetEvaluator
from raynas.training import Recipe
from raynas.training.augment import on_device
from raynas.training.loop import measure

VIEW = tiny_view(200)


def made(space: SearchSpace, looks: Looks = Looks(64), seed: int = 0) -> SubnetEvaluator:  # noqa: B008
    torch.manual_seed(seed)
    supernet = space.supernet(VIEW.input_shape, VIEW.num_classes)
    return SubnetEvaluator(supernet, looks.of(VIEW))


def some(space: SearchSpace, count: int) -> list[Architecture]:
    rng = np.random.default_rng(5)
    found = {a.id: a for a in (space.sample_canonical(rng) for _ in range(20 * count))}
    return list(found.values())[:count]


def close(one: SubnetMeasurement, other: SubnetMeasurement) -> bool:
    same = one.accuracy == pytest.approx(other.accuracy, abs=0.01)
    return bool(same and one.loss == pytest.approx(other.loss, rel=1e-4))


SPACE = ElasticResNet(widths=((8, 12),), strides=(2,), stem_width=8, depths=(1, 2))


@pytest.mark.parametrize("space", [SPACE, Tiny()])
def test_each_is_worth_what_anyone_would_find(space: SearchSpace) -> None:
    subnets, archs = made(space), some(space, 5)
    data, recipe = on_device(VIEW, torch.device("cpu")), Recipe()
    batches = calibration_batches(data, recipe, 64, seed=0)
    for arch, found in zip(archs, subnets.measure(archs), strict=True):
        network = subnets.supernet.extract(arch)
        recalibrate(network, batches)
        wanted = measure(network, data.held_out, data, recipe)
        assert close(found, SubnetMeasurement(wanted["accuracy"], wanted["loss"], 40))
        assert found.images == 40
        assert found.seconds > 0


def test_company_and_order_change_nothing() -> None:
    archs = some(SPACE, 6)
    together = made(SPACE).measure(archs)
    turned = made(SPACE).measure(archs[::-1])[::-1]
    alone = [made(SPACE).measure([arch])[0] for arch in archs]
    for one, two, three in zip(together, turned, alone, strict=True):
        assert close(one, two)
        assert close(one, three)


def test_weights_and_statistics_of_the_supernet_stay() -> None:
    subnets = made(SPACE)
    before = {name: t.clone() for name, t in subnets.supernet.state_dict().items()}
    subnets.measure(some(SPACE, 3))
    SubnetRacer(subnets).run(some(SPACE, 9), Race(keep=1, first=32, calibration=16))
    after = subnets.supernet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    subnets, archs = made(SPACE), some(SPACE, 3)
    first = subnets.measure([archs[0], archs[1], archs[0]])
    assert first[0] is first[2]
    monkeypatch.setattr(module, "SubnetBatch", None)  # nothing could be measured any more
    assert subnets.measure(archs[:2]) == first[:2]
    with pytest.raises(TypeError):
        subnets.measure(archs[2:])


def test_networks_that_cannot_be_taken_apart_are_measured_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archs = some(SPACE, 4)
    wanted = made(SPACE).measure(archs)

    def refuse(*_: object) -> None:
        raise module.NotRecordableError

    monkeypatch.setattr(module, "record", refuse)
    for found, one in zip(made(SPACE).measure(archs), wanted, strict=True):
        assert close(found, one)
    assert [f.images for f in SubnetRacer(made(SPACE)).run(archs, Race(keep=1, first=32))] == [
        40
    ] * 4


def test_calibration_images_are_drawn_by_their_seed() -> None:
    archs = some(SPACE, 2)
    first, again, other = (made(SPACE, Looks(16, seed=seed)).measure(archs) for seed in (0, 0, 1))
    assert [f.loss for f in first] == [f.loss for f in again]
    assert all(not close(a, b) for a, b in zip(first, other, strict=True))


def test_held_out_images_are_a_fair_part_in_random_order() -> None:
    view = Looks(64, images=20).of(VIEW)
    assert len(view.held_out) == 20
    whole = np.bincount(VIEW.held_out.labels, minlength=4) / 2
    assert np.abs(np.bincount(view.held_out.labels, minlength=4) - whole).max() <= 1
    assert (np.diff(view.held_out.labels) < 0).any()
    assert len(Looks(64, images=999).of(VIEW).held_out) == 40
    with pytest.raises(UserError, match="201 images for calibration; expected: at most 200"):
        Looks(201).of(VIEW)


def test_a_foreign_architecture_is_refused() -> None:
    foreign = some(Tiny(), 1)[0]
    with pytest.raises(UserError, match="of space 'tiny', not of 'elastic_resnet'"):
        made(SPACE).measure([foreign])


def test_the_best_of_a_race_are_exact_and_the_others_say_that_they_are_not() -> None:
    archs, race = some(SPACE, 20), Race(keep=3, first=32, calibration=64, p=0.45)
    subnets = made(SPACE)
    found, exact = SubnetRacer(subnets).run(archs, race), made(SPACE).measure(archs)
    best = [n for n, one in enumerate(found) if not one.note]
    assert 3 <= len(best) < 20
    for place, one in enumerate(found):
        if place in best:
            assert close(one, exact[place])
            assert one.images == 40
        else:
            assert "estimated from" in one.note
            assert one.images <= 40
            assert 0 <= one.accuracy <= 100
            assert one.loss >= 0
    # who was measured exactly is known from now on, who was not races again
    assert [subnets.measure([archs[n]])[0] for n in best] == [found[n] for n in best]


def test_each_of_the_two_heats_has_half_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made_with = []

    def watched(race: Race, *args: Any) -> RaceCourse:
        made_with.append(race.p)
        return run_heat(race, *args)

    monkeypatch.setattr("raynas.supernet.evaluation.racer.run_heat", watched)
    SubnetRacer(made(SPACE)).run(some(SPACE, 12), Race(keep=2, first=16, calibration=16, p=0.2))
    assert made_with == [0.1, 0.1]


def test_later_races_are_run_against_the_leaders_of_earlier_ones() -> None:
    archs = some(SPACE, 24)
    races, race = SubnetRacer(made(SPACE)), Race(keep=3, first=32, calibration=64, p=0.45)
    first = races.run(archs[:12], race)
    leaders = sorted((f.accuracy for f in first if not f.note), reverse=True)[:3]
    second = races.run(archs[12:], race)
    assert all(f.note for f in second if f.accuracy < min(leaders) - 20)
    assert sum(not f.note for f in second) <= 3


def test_what_the_leaders_did_not_see_is_not_compared() -> None:
    archs = some(SPACE, 24)
    races = SubnetRacer(made(SPACE))
    races.run(archs[:4], Race(keep=3, first=2, block=2, growth=0.1, calibration=64, p=0.49))
    rest = races.run(archs[4:], Race(keep=3, first=40, calibration=64, p=0.45))
    assert all(np.isfinite([f.accuracy, f.loss]).all() for f in rest)


def test_a_race_of_few_is_none() -> None:
    archs = some(SPACE, 3)
    found = SubnetRacer(made(SPACE)).run(archs, Race(keep=3, first=32))
    assert [f.note for f in found] == [""] * 3


def test_an_empty_question_has_an_empty_answer() -> None:
    nobody: Sequence[Architecture] = []
    assert made(SPACE).measure(nobody) == SubnetRacer(made(SPACE)).run(nobody, Race()) == []


@pytest.mark.parametrize(("book", "group"), [(0, 2), (60, 8)])
def test_a_book_that_is_full_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, book: int, group: int
) -> None:
    archs = some(SPACE, 6)
    wanted = made(SPACE).measure(archs)
    monkeypatch.setattr(module, "_BOOK", book)
    monkeypatch.setattr(module, "_GROUP", group)
    subnets = made(SPACE)
    found = [*subnets.measure(archs[:3]), *subnets.measure(archs[3:])]
    assert all(map(close, found, wanted))


def test_the_same_images_serve_two_supernets() -> None:
    one, two = made(SPACE, seed=0), made(SPACE, seed=1)
    archs = some(SPACE, 2)
    assert [f.loss for f in one.measure(archs)] != [f.loss for f in two.measure(archs)]
    assert replace(one.measure(archs)[0], seconds=0.0) == replace(
        made(SPACE, seed=0).measure(archs)[0], seconds=0.0
    )
