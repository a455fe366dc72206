"""What subnets of one supernet are worth with the weights that they inherit, many at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Architecture, UserError, rng_for
from raynas.data.base import View
from raynas.data.imageset import take
from raynas.data.splits import stratified
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import BATCH, recalibrate
from raynas.supernet.extraction import extract_checked
from raynas.supernet.program import Book, NotRecordableError, Plan, Step, record, steps
from raynas.supernet.racing import Race, run_heat
from raynas.supernet.together import Together
from raynas.training.augment import on_device

#: validation images at a time: on a CPU the feature maps of a step stay in its cache
_IMAGES = {"cpu": 64, "cuda": 2048}
#: architectures whose steps are planned together, and numbers after which the book is begun anew
_GROUP, _BOOK = 64, 1_000_000


@dataclass(frozen=True)
class Looks:
    """Which images show what a subnet is worth; the same ones for all.

    ``calibration``: training images for batch norm's statistics, drawn by ``seed``.
    ``images``: held-out images, drawn by class; None takes all.
    """

    calibration: int = 2000
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.calibration < 2:
            raise UserError(f"{self.calibration} images for calibration", allowed=">= 2")
        if self.images is not None and self.images < 1:
            raise UserError(f"images={self.images}", allowed=">= 1, or None for all")

    def of(self, view: View) -> View:
        """The view with these images only. Raises: UserError when there are too few."""
        have = len(view.train)
        if self.calibration > have:
            raise UserError(
                f"{self.calibration} images for calibration", allowed=f"up to the {have} there are"
            )
        drawn = rng_for(self.seed, "calibration").permutation(have)[: self.calibration]
        count = min(self.images or len(view.held_out), len(view.held_out))
        rng = rng_for("held-out images")
        # in random order, so that the first few are as good as any
        shown = rng.permutation(stratified(view.held_out.labels, count, rng))
        return replace(view, train=take(view.train, drawn), held_out=take(view.held_out, shown))


@dataclass(frozen=True)
class Found:
    """Accuracy in percent and loss in nats on ``images`` held-out images; ``seconds`` spent."""

    accuracy: float
    loss: float
    images: int
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Answers:
    """``right`` and ``losses``: (images,), or (architectures, images)."""

    right: NDArray[np.bool_]
    losses: NDArray[np.float32]


@dataclass(frozen=True)
class Heat:
    """Part of a race: answers and seconds spent by the architecture's id, who was best, first
    the best one, and who stayed."""

    answers: Mapping[str, Answers]
    seconds: Mapping[str, float]
    best: Sequence[Architecture]
    stayed: Sequence[Architecture]


class Subnets:
    """Subnets of ``supernet``, whose weights stay as they are, on the images of ``view``.

    What is measured is kept: the same architecture is not measured twice.
    """

    def __init__(self, supernet: Supernet, view: View, device: str = "cpu") -> None:
        self.place = torch.device(device)
        self.supernet = supernet.to(self.place).eval().requires_grad_(False)
        self._view = view  # what is on the device lives as long as the view
        self._data = on_device(view, self.place)
        self._known: dict[str, Found] = {}
        # the best of all races with their answers in both heats; all of them are known, too
        self._leaders: dict[str, tuple[Answers, Answers]] = {}
        self._begin()

    def _begin(self) -> None:
        self._book = Book([*self.supernet.parameters(), *self.supernet.buffers()])
        self._recorded: dict[str, list[Step] | None] = {}

    def _turn_page(self) -> None:
        """Forget programs when they are too many; numbers of two books do not go together."""
        if len(self._book) > _BOOK:
            self._begin()

    def measure(self, archs: Sequence[Architecture], threads: int = 1) -> list[Found]:
        """On all images, after calibration of its own for each.

        Raises: UserError for an architecture of another space.
        """
        new = list({a.id: a for a in archs if a.id not in self._known}.values())
        with _threads(threads):
            for start in range(0, len(new), _GROUP):
                self._turn_page()
                some = new[start : start + _GROUP]
                self._known.update(zip((a.id for a in some), self._exactly(some), strict=True))
        return [self._known[a.id] for a in archs]

    def _exactly(self, archs: Sequence[Architecture]) -> list[Found]:
        began = self._worked()
        programs = [self._steps(arch) for arch in archs]
        together = [place for place, program in enumerate(programs) if program is not None]
        found: dict[int, Answers] = {}
        if together:
            crowd = Crowd(self, [p for p in programs if p is not None])
            crowd.calibrate(len(self._view.train))
            answers = crowd.answers(slice(None))
            for row, place in enumerate(together):
                found[place] = Answers(answers.right[row], answers.losses[row])
        for place, arch in enumerate(archs):
            if place not in found:
                found[place] = self._alone(arch)
        seconds = (self._worked() - began) / len(archs)
        return [_summary(found[place], seconds) for place in range(len(archs))]

    def race(self, archs: Sequence[Architecture], race: Race, threads: int = 1) -> list[Found]:
        """The best exactly, as ``measure`` does; the others by fewer images, with a note.

        The best of earlier calls take part with what they answered then.
        Raises: UserError for an architecture of another space.
        """
        self._turn_page()
        new = {a.id: a for a in archs if a.id not in self._known and self._steps(a) is not None}
        estimates: dict[str, Found] = {}
        if len(new) + len(self._leaders) > race.keep:
            with _threads(threads):
                estimates = self._race(list(new.values()), race)
        exact = [arch for arch in archs if arch.id not in estimates]
        found = dict(zip((a.id for a in exact), self.measure(exact, threads), strict=True))
        return [found[a.id] if a.id in found else estimates[a.id] for a in archs]

    def _race(self, archs: Sequence[Architecture], race: Race) -> dict[str, Found]:
        """Estimates for those that are not among the best, who are measured."""
        whole = len(self._view.train), len(self._view.held_out)
        first = self._heat(archs, race, race.calibration, race.heat, 0)
        second = self._heat(first.stayed, race, *whole, 1)
        self.measure(second.best, torch.get_num_threads())
        judges = {a.id: (first.answers[a.id], second.answers[a.id]) for a in second.best}
        judges |= self._leaders
        ranked = sorted(judges, key=lambda name: -self._known[name].accuracy)
        self._leaders = {name: judges[name] for name in ranked[: race.keep]}
        found = {}
        for name in (a.id for a in archs if a.id not in self._known):
            seconds = first.seconds[name] + second.seconds.get(name, 0.0)
            heat = int(name in second.answers)
            own = (first, second)[heat].answers[name]
            others = [(self._known[n], both[heat]) for n, both in judges.items()]
            found[name] = _estimate(own, others, seconds)
        return found

    def _heat(
        self,
        archs: Sequence[Architecture],
        race: Race,
        calibration: int,
        images: int,
        number: int,
    ) -> Heat:
        """``number``: of the heat, 0 or 1."""
        began = self._worked()
        crowd = Crowd(self, [p for a in archs if (p := self._steps(a))], _fastest(self.place))
        crowd.calibrate(calibration)
        losses = np.zeros((len(archs), min(images, len(self._view.held_out))), np.float32)

        def answers(some: Sequence[int], part: slice) -> NDArray[np.bool_]:
            crowd.keep(some)
            found = crowd.answers(part)
            losses[some, part] = found.losses
            return found.right

        leaders = [both[number].right for both in self._leaders.values()]
        course = run_heat(race, len(archs), losses.shape[1], answers, leaders)
        own = {
            arch.id: Answers(course.right[place, :seen], losses[place, :seen])
            for place, (arch, seen) in enumerate(zip(archs, course.seen.tolist(), strict=True))
        }
        spent = (self._worked() - began) / max(float(np.sum(course.seen + calibration)), 1.0)
        seconds = {name: spent * (len(one.right) + calibration) for name, one in own.items()}
        best, stayed = ([archs[n] for n in some] for some in (course.best, course.stayed))
        return Heat(own, seconds, best, stayed)

    def _alone(self, arch: Architecture) -> Answers:
        """As anyone would do it: extract, calibrate, look at all images."""
        network = self.supernet.extract(arch)
        recalibrate(network, self.batches(slice(None)))
        with torch.inference_mode():
            parts = [_judge([network(b)], labels) for b, labels in self.shown(slice(None))]
        right, losses = (torch.cat(part, dim=1)[0] for part in zip(*parts, strict=True))
        return Answers(right.cpu().numpy(), losses.cpu().numpy())

    def extract(self, arch: Architecture) -> nn.Module:
        """The network of ``arch``, calibrated as it is measured; it may be trained on.

        Raises: RaynasError when it computes something else than the supernet does.
        """
        network, _ = extract_checked(self.supernet, arch)
        recalibrate(network, self.batches(slice(None)))
        return network.requires_grad_(True)

    def _steps(self, arch: Architecture) -> list[Step] | None:
        """None for a network that cannot be taken apart."""
        if arch.id not in self._recorded:
            values = self.supernet.values(arch)
            image = torch.zeros(self.supernet.input_shape, device=self.place)
            try:
                program = record(lambda x: self.supernet(x, values), image, self._book)
                self._recorded[arch.id] = steps(program)
            except NotRecordableError:
                self._recorded[arch.id] = None
        return self._recorded[arch.id]

    def batches(self, some: slice) -> Iterator[Tensor]:
        """Training images (b, c, h, w), channels last."""
        for pixels in torch.split(self._data.train.pixels[some], BATCH):
            yield self._data.normalise(pixels).permute(0, 3, 1, 2)

    def shown(self, some: slice) -> Iterator[tuple[Tensor, Tensor]]:
        """Held-out images (b, c, h, w), channels last, and their labels (b,)."""
        size, held_out = _IMAGES.get(self.place.type, 256), self._data.held_out
        pixels_of = torch.split(held_out.pixels[some], size)
        labels_of = torch.split(held_out.labels[some], size)
        for pixels, labels in zip(pixels_of, labels_of, strict=True):
            yield self._data.normalise(pixels).permute(0, 3, 1, 2), labels

    @property
    def images(self) -> int:
        """The number of the images in programs."""
        return self._book.number("images")

    def _worked(self) -> float:
        """On a CPU processor time, in which the same work costs the same on a busy machine."""
        if self.place.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        return time.monotonic()


class Crowd:
    """Networks that are calibrated and measured together, by their steps."""

    def __init__(
        self,
        subnets: Subnets,
        programs: Sequence[list[Step]],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._subnets = subnets
        self._together = Together(subnets.images, dtype)
        self._programs = list(programs)
        self.keep(range(len(programs)))

    def keep(self, places: Sequence[int]) -> None:
        """Go on with those of the networks, by their places among what there was at first."""
        self.places = list(places)
        programs = [self._programs[place] for place in self.places]
        # a GPU would wait for many small launches; a CPU only copies more
        stacked = self._subnets.place.type == "cuda"
        self._plan = Plan(programs, [program[-1].number for program in programs], stacked)

    def calibrate(self, count: int) -> None:
        """With the first ``count`` training images."""
        self._together.calibrate(self._plan, self._subnets.batches(slice(count)))

    def answers(self, some: slice) -> Answers:
        """To ``some`` of the held-out images."""
        parts = [
            _judge(self._together.logits(self._plan, images), labels)
            for images, labels in self._subnets.shown(some)
        ]
        right, losses = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return Answers(right.cpu().numpy(), losses.cpu().numpy())


def _judge(logits: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """(networks, images): whether right, and the cross entropy."""
    every = torch.stack(list(logits))
    right = every.argmax(2) == labels
    losses = F.cross_entropy(
        every.flatten(0, 1), labels.repeat(len(every)), reduction="none"
    ).reshape(right.shape)
    return right, losses


def _summary(answers: Answers, seconds: float) -> Found:
    count = len(answers.right)
    accuracy = 100 * float(np.count_nonzero(answers.right)) / count
    return Found(accuracy, float(answers.losses.mean(dtype=np.float64)), count, seconds)


def _estimate(own: Answers, judges: Sequence[tuple[Found, Answers]], seconds: float) -> Found:
    """What the best have on all images, less by how much they were ahead on the same few."""
    seen = len(own.right)
    both = min(seen, max(len(judge.right) for _, judge in judges))
    able = [(exact, judge) for exact, judge in judges if len(judge.right) >= both]
    ahead = np.mean([judge.right[:both].mean() for _, judge in able]) - own.right[:both].mean()
    less = own.losses[:both].mean() - np.mean([judge.losses[:both].mean() for _, judge in able])
    accuracy = float(np.mean([exact.accuracy for exact, _ in able]) - 100 * ahead)
    loss = float(np.mean([exact.loss for exact, _ in able]) + less)
    note = f"estimated from {seen} images, after which it was behind the best"
    return Found(min(max(accuracy, 0.0), 100.0), max(loss, 0.0), seen, seconds, note)


def _fastest(place: torch.device) -> torch.dtype:
    """For numbers that are only compared: bfloat16 where the device computes it by itself."""
    if place.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
