"""The check that a recorded program computes the same as its network.

A recording shows one pass over some images. Code that torch does not see, a state that changes
between calls, or a size that follows from the number of images may make another pass differ. So
each recording is replayed once for other images, of another number, and compared with the supernet.

Every recording is checked, and not only one per set of operations: two architectures may leave the
same operations and still be different networks, when the difference between them was not seen.
The statistics of batch norms are another matter. They are a property of the layer, so networks
that use the same buffers equally often are calibrated alike, and only the first of them is compared
with its own network after calibration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raynas.core import Architecture, Option
from raynas.core.errors import first_line
from raynas.spaces.supernet import Supernet
from raynas.supernet.calibration import recalibrate
from raynas.supernet.evaluation.batched import BatchedExecutor
from raynas.supernet.evaluation.execution_plan import ExecutionPlan, ExecutionStep
from raynas.supernet.evaluation.tracing import TracedGraph

#: numbers of images for the comparison and the calibration, other than those of recordings
_COMPARED, _CALIBRATED = 3, 8
#: differences of rounding, as a share of the largest logit: on a CPU, on other devices (which may
#: multiply in TF32), and of logits with less than 32 bits
_CPU, _OTHERS, _SHORT = 1e-3, 2e-2, 5e-2


class TraceAgreement:
    """A comparison of recordings of one supernet with their networks.

    Args:
        supernet: In eval mode; it is not changed.
        images: The number of the images in programs.
        device: The device of the supernet.
    """

    def __init__(self, supernet: Supernet, images: int, device: torch.device) -> None:
        channels, height, width = supernet.input_shape
        count, generator = _COMPARED + _CALIBRATED, torch.Generator().manual_seed(0)
        drawn = torch.randn(count, height, width, channels, generator=generator)
        shown = drawn.permute(0, 3, 1, 2).to(device)  # channels last, as data sets are
        self._compared, self._calibration = shown[:_COMPARED], shown[_COMPARED:]
        self._supernet, self._images, self._device = supernet, images, device
        self._buffers = {buffer.untyped_storage().data_ptr() for buffer in supernet.buffers()}
        self._calibrated_alike: set[tuple[int, int]] = set()

    @torch.no_grad()
    def remark(
        self,
        arch: Architecture,
        values: Mapping[str, Option],
        program: TracedGraph,
        steps: Sequence[ExecutionStep],
    ) -> str:
        """Compare the replay of ``steps`` with the network of ``arch``.

        Args:
            arch: The architecture.
            values: The same, as the supernet takes it.
            program: Its recording.
            steps: The steps of ``program``.

        Returns:
            The difference, in words; an empty text when they agree.

        Raises:
            UserError: When the supernet raises it.
        """
        wanted = self._supernet(self._compared.clone(), values)  # it may overwrite its input
        together, plan = BatchedExecutor(self._images), self._plan(steps)
        together.inherit(plan)
        found = self._replay(together, plan)
        if isinstance(found, str) or (found := _difference(found, wanted)):
            return found
        uses = self._uses(program)
        if uses <= self._calibrated_alike and not _same_for_all(wanted):
            return ""
        remark = self._calibrated(arch, plan)
        if remark and any(count > 1 for _, count in uses):
            remark += "; a batch norm is used more than once"
        if not remark:
            self._calibrated_alike |= uses
        return remark

    def runs_in(self, dtype: torch.dtype, steps: Sequence[ExecutionStep]) -> bool:
        """Return whether a replay in ``dtype`` works: a network may require a precision of its own.

        Args:
            dtype: The type of weights and feature maps.
            steps: The steps of a program.
        """
        together, plan = BatchedExecutor(self._images, dtype), self._plan(steps)
        found = self._replay(together, plan, calibrate=True)
        return not isinstance(found, str)

    def _plan(self, steps: Sequence[ExecutionStep]) -> ExecutionPlan:
        return ExecutionPlan([steps], [steps[-1].number], stacked=stacks(self._device))

    def _calibrated(self, arch: Architecture, plan: ExecutionPlan) -> str:
        together = BatchedExecutor(self._images)
        found = self._replay(together, plan, calibrate=True)
        if isinstance(found, str):
            return found
        network = self._supernet.extract(arch)
        recalibrate(network, [self._calibration.clone()])
        difference = _difference(found, network(self._compared.clone()))
        return f"after calibration, {difference}" if difference else ""

    def _replay(
        self, together: BatchedExecutor, plan: ExecutionPlan, calibrate: bool = False
    ) -> Tensor | str:
        """Return the logits, or the reason why there are none."""
        try:
            if calibrate:
                together.calibrate(plan, [self._calibration])
            return together.logits(plan, self._compared)[0]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any kind: operations of any network
            count, why = len(self._compared), first_line(error)
            return f"its recording does not run for {count} images: {why}"

    def _uses(self, program: TracedGraph) -> set[tuple[int, int]]:
        """Return (memory, uses) of each buffer; (0, 0) stands for any network."""
        tensors = (tensor for operation in program.operations for tensor in operation.constants)
        places = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors)
        return {(0, 0), *((p, count) for p, count in places.items() if p in self._buffers)}


def stacks(device: torch.device) -> bool:
    """Return whether equal steps of several networks are computed together.

    A GPU would wait for many small launches; a CPU would only copy more.

    Args:
        device: The device of the networks.
    """
    return device.type == "cuda"


def _difference(found: Tensor, wanted: Tensor) -> str:
    if found.shape != wanted.shape:
        shapes = tuple(found.shape), tuple(wanted.shape)
        return f"its recording gives logits of shape {shapes[0]}, the network {shapes[1]}"
    wide = wanted.float()
    if torch.allclose(found, wide, rtol=0, atol=_tolerance(wanted), equal_nan=True):
        return ""
    difference = float((found - wide).abs().max())
    return f"its recording gives logits that differ from the network's by {difference:.2g}"


def _tolerance(logits: Tensor) -> float:
    share = _CPU if logits.device.type == "cpu" else _OTHERS
    if logits.is_floating_point() and logits.dtype.itemsize < 4:
        share = _SHORT
    finite = logits.float().nan_to_num(0.0, 0.0, 0.0).abs()
    return share * float(finite.max()) if finite.numel() else 0.0


def _same_for_all(logits: Tensor) -> bool:
    """Return whether all images have the same logits, which would hide a difference."""
    return not bool(((logits - logits[:1]).abs() > _tolerance(logits)).any())
