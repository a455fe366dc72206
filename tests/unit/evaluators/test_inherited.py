"""Inherited weights as an evaluator: alone, in crowds, and refused where they must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_supernet import Tiny, tiny_view
from toys import ToySpace

from raynas.core import Architecture, Job, Measurement, UserError
from raynas.core.describe import describe, fingerprint
from raynas.evaluators import Inherited, TrainSupernet
from raynas.supernet.evaluation.race import Race
from raynas.supernet.weights import save_weights
from raynas.training import Recipe

SPACE, VIEW = Tiny(), tiny_view(200)
JOB = Job(0, seed=1, max_step=1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    supernet = SPACE.supernet(VIEW.input_shape, VIEW.num_classes)
    return save_weights(tmp_path / "weights", supernet, epoch=1, identity={}).path


@pytest.fixture
def inherited(weights: Path) -> Inherited:
    made = Inherited(calibration=64, weights=weights)
    made.setup(SPACE, VIEW)
    return made


def archs(count: int) -> list[Architecture]:
    return list(SPACE.enumerate())[:count]


def together(evaluator: Inherited, some: list[Architecture]) -> list[Measurement | Exception]:
    """The only thing that each place had to say before it ended."""
    found: dict[int, list[Measurement | Exception | None]] = {n: [] for n in range(len(some))}
    for place, one in evaluator.evaluate_many(some, [JOB] * len(some)):
        found[place].append(one)
    assert all(len(one) == 2 - isinstance(one[-1], Exception) for one in found.values())
    return [one[0] for one in found.values()]  # type: ignore[misc]


def test_a_crowd_gives_what_each_gives_alone(inherited: Inherited) -> None:
    crowd = together(inherited, archs(6))
    for arch, one in zip(archs(6), crowd, strict=True):
        fresh = replace(inherited)
        fresh.setup(SPACE, VIEW)
        (alone,) = fresh.evaluate(arch, replace(JOB, seed=7))
        assert isinstance(one, Measurement)
        assert one.values == pytest.approx(dict(alone.values), rel=1e-4)
        assert one.values["images"] == 40


def test_a_foreign_architecture_in_a_crowd_fails_alone(inherited: Inherited) -> None:
    foreign = ToySpace().architecture("x=0,y=0,op=a")
    first, second, third = together(inherited, [archs(2)[0], foreign, archs(2)[1]])
    assert isinstance(first, Measurement)
    assert isinstance(third, Measurement)
    assert isinstance(second, UserError)
    assert "of space 'toy', not of 'tiny'" in str(second)
    with pytest.raises(UserError, match="of space 'toy'"):
        list(inherited.evaluate(foreign, JOB))


def test_raced_out_ones_carry_a_note_and_the_images_that_they_saw(inherited: Inherited) -> None:
    raced = replace(inherited, race=Race(keep=2, first=32, calibration=32, p=0.45))
    raced.setup(SPACE, VIEW)
    found = [one for one in together(raced, archs(16)) if isinstance(one, Measurement)]
    notes = [one.note for one in found]
    assert len(found) == 16
    assert notes.count("") >= 2
    assert all(note.startswith("estimated from ") for note in notes if note)
    assert {one.values["images"] for one in found if not one.note} == {40.0}
    assert fingerprint(describe(raced)) != fingerprint(describe(inherited))


def test_a_corrupt_file_is_refused_with_its_name(weights: Path, inherited: Inherited) -> None:
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(bytes(content))
    for use in (lambda: inherited.check(archs(1)[0]), inherited.assets):
        with pytest.raises(UserError, match=r"weights\.safetensors was altered"):
            use()
    weights.write_bytes(bytes(content[:50]))
    with pytest.raises(UserError, match=r"weights\.safetensors is not a complete"):
        Inherited().bind_weights(weights.parent)
    with pytest.raises(UserError, match="supernet weights not found:"):
        Inherited().bind_weights(weights.parent / "elsewhere")


def test_weights_that_are_not_numbers_are_reported(
    weights: Path, inherited: Inherited, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    supernet = SPACE.supernet(VIEW.input_shape, VIEW.num_classes)
    with torch.no_grad():
        next(supernet.parameters()).fill_(float("nan"))
    monkeypatch.setattr("raynas.supernet.weights._not_finite", lambda *_: "")
    save_weights(weights.parent, supernet, epoch=1, identity={})
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"are not all finite: \d+ of body"):
        inherited.check(archs(1)[0])
    with pytest.raises(UserError, match="are not all finite"):
        inherited.assets()


def test_it_needs_a_training_until_there_are_weights(weights: Path) -> None:
    training = TrainSupernet(Recipe(epochs=2))
    before = Inherited(training=training, calibration=100)
    assert before.requires() is training
    assert before.weights_version() is None
    assert before.assets() == {}
    after = before.bind_weights(weights.parent)
    assert after.requires() is None
    assert after.weights_version() == Inherited(weights=weights).weights_version()
    assert describe(after) == describe(before)  # where weights lie is no setting
    before.setup(SPACE, VIEW)
    before.check(archs(1)[0])
    before.setup(ToySpace(), VIEW)
    with pytest.raises(UserError, match="'toy' has no supernet"):
        before.check(ToySpace().architecture("x=0,y=0,op=a"))


def test_assets_serve_in_place_of_the_file(weights: Path, inherited: Inherited) -> None:
    (wanted,) = inherited.evaluate(archs(1)[0], JOB)
    assets = inherited.assets()
    for array in assets.values():
        array.flags.writeable = False
    weights.unlink()
    other = replace(inherited)
    other.load_assets(assets)
    other.setup(SPACE, VIEW)
    (found,) = other.evaluate(archs(1)[0], JOB)
    assert found.values == wanted.values
    parameters = other._on("cpu").supernet.state_dict()
    assert not any(np.shares_memory(assets[n], t.numpy()) for n, t in parameters.items())
    foreign = replace(inherited)
    foreign.load_assets({**assets, "body.more": np.zeros(3, np.float32)})
    foreign.setup(SPACE, VIEW)
    with pytest.raises(UserError, match=r"of another supernet: body\.more is \(3,\) there"):
        foreign.check(archs(1)[0])


@pytest.mark.parametrize("wrong", [{"calibration": 1}, {"images": 0}, {"preferred_batch": 0}])
def test_settings_that_make_no_sense_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Inherited(**wrong)  # type: ignore[arg-type]
