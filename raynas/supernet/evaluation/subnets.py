"""Measurement of many subnets of one supernet with the weights that they inherit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import Architecture, Option, UserError
from raynas.core.errors import first_line
from raynas.data.base import DataView
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import in_batches, recalibrate
from raynas.supernet.evaluation.agreement import TraceAgreement, stacks
from raynas.supernet.evaluation.batched import BatchedExecutor
from raynas.supernet.evaluation.execution_plan import ExecutionPlan, ExecutionStep, steps
from raynas.supernet.evaluation.measurements import SubnetMeasurement, SubnetPredictions
from raynas.supernet.evaluation.tracing import NotRecordableError, ValueTable, record
from raynas.supernet.extraction import extract_checked
from raynas.training.augment import on_device

#: validation images per batch: on a CPU the feature maps of a step stay in its cache
_IMAGES = {"cpu": 64, "cuda": 2048}
#: architectures whose steps are planned together, and values after which numbering starts anew
_GROUP, _BOOK = 64, 1_000_000


@dataclass(frozen=True)
class TracedNetwork:
    """The recorded steps of one network.

    Attributes:
        steps: The steps; None when the network has to run itself.
        remark: The reason why it has to.
    """

    steps: list[ExecutionStep] | None
    remark: str = ""


class SubnetEvaluator:
    """The subnets of one supernet, measured on the images of one view.

    Measurements are kept: the same architecture is not measured twice.

    Args:
        supernet: Moved to the device and set to eval mode; its weights are not changed.
        view: The training images of calibration and the held-out images.
        device: A torch device, such as "cpu" or "cuda:0".

    Attributes:
        place: The device.
        supernet: The supernet.
        known: Id of the architecture -> measurement.
        whole: Id of the architecture -> answers, for those that the last call measured.
    """

    def __init__(self, supernet: Supernet, view: DataView, device: str = "cpu") -> None:
        self.place = torch.device(device)
        self.supernet = supernet.to(self.place).eval()
        self._view = view  # what is on the device lives as long as the view
        self._data = on_device(view, self.place)
        self.known: dict[str, SubnetMeasurement] = {}
        self.whole: dict[str, SubnetPredictions] = {}
        self._begin()

    def _begin(self) -> None:
        self._book = ValueTable([*self.supernet.parameters(), *self.supernet.buffers()])
        self._recorded: dict[str, TracedNetwork] = {}
        self._agreement = TraceAgreement(self.supernet, self.images, self.place)

    def turn_page(self) -> None:
        """Delete all programs when there are too many values in them.

        Values are then numbered anew: numbers of two books do not fit together.
        """
        if len(self._book) > _BOOK:
            self._begin()

    def measure(self, archs: Sequence[Architecture], threads: int = 1) -> list[SubnetMeasurement]:
        """Measure subnets on all images, each after a calibration of its own.

        Args:
            archs: The architectures.
            threads: CPU threads.

        Returns:
            One result per architecture.

        Raises:
            UserError: When an architecture is of another space.
        """
        new = list({a.id: a for a in archs if a.id not in self.known}.values())
        self.whole = {}
        with threads_of(threads):
            for start in range(0, len(new), _GROUP):
                self.turn_page()
                some = new[start : start + _GROUP]
                self.known.update(zip((a.id for a in some), self._exactly(some), strict=True))
        return [self.known[a.id] for a in archs]

    def _exactly(self, archs: Sequence[Architecture]) -> list[SubnetMeasurement]:
        began = self.worked()
        programs = [self.program(arch) for arch in archs]
        together = [place for place, program in enumerate(programs) if program is not None]
        found: dict[int, SubnetPredictions] = {}
        if together:
            crowd = SubnetBatch(self, [p for p in programs if p is not None])
            crowd.calibrate(len(self._view.train))
            answers = crowd.answers(slice(None))
            for row, place in enumerate(together):
                found[place] = SubnetPredictions(answers.right[row], answers.losses[row])
        for place, arch in enumerate(archs):
            if place not in found:
                found[place] = self._alone(arch)
        seconds = (self.worked() - began) / len(archs)
        self.whole |= {arch.id: found[place] for place, arch in enumerate(archs)}
        notes = [self.remark(arch) for arch in archs]
        return [_summary(found[place], seconds, note) for place, note in enumerate(notes)]

    def _alone(self, arch: Architecture) -> SubnetPredictions:
        """Measure one network without its program: extract, calibrate and run it."""
        network = self.supernet.extract(arch)
        recalibrate(network, self.batches(slice(None)))
        with torch.inference_mode():
            parts = [_judge([network(b)], labels) for b, labels in self.shown(slice(None))]
        right, losses = (torch.cat(part, dim=1)[0] for part in zip(*parts, strict=True))
        return SubnetPredictions(right.cpu().numpy(), losses.cpu().numpy())

    def extract(self, arch: Architecture) -> nn.Module:
        """Return the network of ``arch``, calibrated as it is measured; it may be trained further.

        Weights that are frozen in the supernet are frozen in it.

        Args:
            arch: The architecture.

        Returns:
            The network in eval mode, on the device.

        Raises:
            RaynasError: When it computes other outputs than the supernet.
        """
        shown = next(self.batches(slice(2)))
        network, _ = extract_checked(self.supernet, arch, images=shown)
        recalibrate(network, self.batches(slice(None)))
        return network

    def program(self, arch: Architecture) -> list[ExecutionStep] | None:
        """Return the recorded program of an architecture.

        Args:
            arch: The architecture.

        Returns:
            Its steps; None for a network that cannot be recorded, see :meth:`remark`.
        """
        return self._recording(arch).steps

    def remark(self, arch: Architecture) -> str:
        """Return the reason why the network of ``arch`` is measured by itself.

        Args:
            arch: The architecture.

        Returns:
            One sentence; an empty text when its program can be used.
        """
        remark = self._recording(arch).remark
        return f"measured by itself: {remark}" if remark else ""

    def races(self, arch: Architecture) -> bool:
        """Return whether the program of ``arch`` also works in the precision of races.

        Args:
            arch: The architecture.
        """
        program, dtype = self.program(arch), fastest(self.place)
        if program is None or dtype is torch.float32:
            return program is not None
        return self._agreement.runs_in(dtype, program)

    def _recording(self, arch: Architecture) -> TracedNetwork:
        if arch.id not in self._recorded:
            values = self.supernet.values(arch)
            self._recorded[arch.id] = self._checked(arch, values)
        return self._recorded[arch.id]

    def _checked(self, arch: Architecture, values: Mapping[str, Option]) -> TracedNetwork:
        """Return a recording that was compared with its network.

        When the recording fails, the network runs itself, or raises its own error.
        """
        image = torch.zeros(self.supernet.input_shape, device=self.place)
        try:
            program = record(lambda x: self.supernet(x, values), image, self._book)
            found = steps(program)
            remark = self._agreement.remark(arch, values, program, found)
        except NotRecordableError as error:
            return TracedNetwork(None, str(error))
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # any kind: code of any network
            return TracedNetwork(None, f"its recording failed: {first_line(error)}")
        return TracedNetwork(None, remark) if remark else TracedNetwork(found)

    def batches(self, some: slice) -> Iterator[Tensor]:
        """Yield training images in batches.

        Args:
            some: The slice of the training images.

        Yields:
            (b, c, h, w) float32, normalised, channels last.
        """
        for pixels in in_batches(self._data.train.pixels[some]):
            yield self._data.normalise(pixels).permute(0, 3, 1, 2)

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of training and of held-out images."""
        return len(self._data.train), len(self._data.held_out)

    def shown(self, some: slice | NDArray[np.intp]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out images and their labels in batches.

        Args:
            some: The slice or the numbers of the held-out images.

        Yields:
            Images (b, c, h, w) float32, normalised, channels last, and labels (b,) int64.
        """
        size, held_out = _IMAGES.get(self.place.type, 256), self._data.held_out
        index = some if isinstance(some, slice) else torch.from_numpy(some).to(self.place)
        pixels_of = torch.split(held_out.pixels[index], size)
        labels_of = torch.split(held_out.labels[index], size)
        for pixels, labels in zip(pixels_of, labels_of, strict=True):
            yield self._data.normalise(pixels).permute(0, 3, 1, 2), labels

    @property
    def images(self) -> int:
        """The number of the value "images" in programs."""
        return self._book.number("images")

    def worked(self) -> float:
        """Return a clock of the seconds worked.

        Returns:
            On a CPU the processor time of this process divided by its threads, in which the same
            work costs the same on a busy machine; else wall-clock time.
        """
        if self.place.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        return time.monotonic()


class SubnetBatch:
    """A group of networks that are calibrated and measured together, by their steps.

    Args:
        subnets: Their images and device.
        programs: Their steps.
        dtype: The type of weights and feature maps.

    Attributes:
        places: Indices into ``programs`` of the networks that remain.
    """

    def __init__(
        self,
        subnets: SubnetEvaluator,
        programs: Sequence[list[ExecutionStep]],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._subnets = subnets
        self._together = BatchedExecutor(subnets.images, dtype)
        self._programs = list(programs)
        self.keep(range(len(programs)))

    def keep(self, places: Sequence[int]) -> None:
        """Continue with some of the networks.

        Args:
            places: Their indices among the programs of the beginning.
        """
        self.places = list(places)
        programs = [self._programs[place] for place in self.places]
        results = [program[-1].number for program in programs]
        self._plan = ExecutionPlan(programs, results, stacks(self._subnets.place))

    def calibrate(self, count: int) -> None:
        """Collect batch norm statistics of all networks.

        Args:
            count: The first ``count`` training images are used.
        """
        self._together.calibrate(self._plan, self._subnets.batches(slice(count)))

    def answers(self, some: slice | NDArray[np.intp]) -> SubnetPredictions:
        """Return the answers of the remaining networks.

        Args:
            some: The slice or the numbers of the held-out images.

        Returns:
            (networks, images) answers.
        """
        parts = [
            _judge(self._together.logits(self._plan, images), labels)
            for images, labels in self._subnets.shown(some)
        ]
        right, losses = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return SubnetPredictions(right.cpu().numpy(), losses.cpu().numpy())


def _judge(logits: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (networks, images): whether the answer is right, and the cross entropy in nats."""
    every = torch.stack(list(logits))
    right = every.argmax(2) == labels
    losses = F.cross_entropy(
        every.flatten(0, 1), labels.repeat(len(every)), reduction="none"
    ).reshape(right.shape)
    return right, losses


def _summary(answers: SubnetPredictions, seconds: float, note: str) -> SubnetMeasurement:
    count = len(answers.right)
    accuracy = 100 * float(np.count_nonzero(answers.right)) / count
    return SubnetMeasurement(
        accuracy, float(answers.losses.mean(dtype=np.float64)), count, seconds, note
    )


def fastest(place: torch.device) -> torch.dtype:
    """Return the type for numbers that are only compared.

    Args:
        place: The device.

    Returns:
        bfloat16 where the device computes it in hardware, else float32.
    """
    if place.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Set the number of torch's CPU threads for as long as the context lasts.

    Args:
        count: Number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
