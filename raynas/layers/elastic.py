"""Elastic convolution, batch norm and linear layer: slices of the largest one.

Channels are leading slices. A kernel is the centre of the largest one, passed through small
matrices if ``transforms`` is on (section 3.3 of Once-for-All: "kernel transformation matrices").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core import UserError
from raynas.layers.base import Arch, Elastic, Region, Size, Sized, filled, size


class ElasticConv2d(Elastic):
    """(n, c, h, w) -> (n, out, ceil(h / stride), ceil(w / stride)), for odd kernels.

    ``max_in``: the most input channels. ``out``, ``kernel``: see ``Sized``. ``depthwise``: one
    filter per input channel; ``out`` is then what comes in. ``transforms``: smaller kernels are
    the centre of the next larger one times a matrix, the identity at first.
    Raises: UserError for even kernels.
    """

    def __init__(
        self,
        max_in: Sized,
        out: Sized,
        kernel: Sized = 3,
        stride: int = 1,
        bias: bool = False,
        depthwise: bool = False,
        transforms: bool = False,
    ) -> None:
        super().__init__()
        self.max_in, self.out, self.kernel = size(max_in).most, size(out), size(kernel)
        self.least_in = size(max_in).options[0]
        self.stride, self.depthwise = stride, depthwise
        if any(side % 2 == 0 for side in self.kernel.options):
            raise UserError(f"elastic kernels {self.kernel.options}", allowed="odd integers")
        groups = self.max_in if depthwise else 1
        largest = nn.Conv2d(self.max_in, self.out.most, self.kernel.most, groups=groups, bias=bias)
        self.weight, self.bias = largest.weight, largest.bias
        smaller = self.kernel.options[:-1] if transforms else ()
        #: One matrix per smaller kernel, which makes it from the next larger one.
        self.transforms = nn.ParameterDict({f"to{k}": torch.eye(k * k) for k in smaller})

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in if self.depthwise else self.out(arch)

    def filters(self, arch: Arch, width_in: int) -> Tensor:
        """The weight of the plain convolution: (out, in or 1, kernel, kernel)."""
        side = self.kernel(arch)
        weight = self.weight[: self.width_out(arch, width_in)]
        if not self.depthwise:
            weight = weight[:, :width_in]
        for step in self._steps(side):
            weight = _centre(weight, step)
            if self.transforms:
                flat = weight.reshape(*weight.shape[:2], step * step)
                weight = (flat @ self.transforms[f"to{step}"]).reshape(weight.shape)
        return weight

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        weight = self.filters(arch, x.shape[1])
        bias = None if self.bias is None else self.bias[: weight.shape[0]]
        groups = x.shape[1] if self.depthwise else 1
        padding = weight.shape[-1] // 2
        return functional.conv2d(x, weight, bias, self.stride, padding, groups=groups)

    def plain(self, arch: Arch, width_in: int) -> nn.Conv2d:
        tensors = {"weight": self.filters(arch, width_in)}
        out, _, side, _ = tensors["weight"].shape
        if self.bias is not None:
            tensors["bias"] = self.bias[:out]
        plain: nn.Conv2d = filled(
            nn.Conv2d,
            tensors,
            self,
            in_channels=width_in,
            out_channels=out,
            kernel_size=side,
            stride=self.stride,
            padding=side // 2,
            groups=width_in if self.depthwise else 1,
            bias=self.bias is not None,
        )
        return plain

    def own(self, arch: Arch, width_in: int) -> dict[str, Region]:
        out, steps = slice(self.width_out(arch, width_in)), list(self._steps(self.kernel(arch)))
        outermost = steps[0] if steps else self.kernel.most
        rim = (self.kernel.most - outermost) // 2
        centre = slice(rim, rim + outermost)
        regions: dict[str, Region] = {
            "weight": (out, slice(1 if self.depthwise else width_in), centre, centre)
        }
        if self.bias is not None:
            regions["bias"] = (out,)
        if self.transforms:
            regions.update({f"transforms.to{step}": () for step in steps})
        return regions

    def _steps(self, side: int) -> Iterator[int]:
        """The sides through which the largest kernel becomes one of ``side``."""
        if not self.transforms:
            return iter(() if side == self.kernel.most else (side,))
        return (k for k in reversed(self.kernel.options[:-1]) if k >= side)


class ElasticBatchNorm2d(Elastic):
    """(n, c, h, w) -> the same shape, with the leading ``c`` weights and statistics.

    ``most``: the most channels. ``affine`` off: no weight and no bias, as Ning et al. advise for
    the cells of a supernet; the plain layer has them then, one and zero, to be trained on.
    ``momentum`` None averages all batches evenly.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        most: Sized,
        affine: bool = True,
        momentum: float | None = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.most, self.momentum, self.eps = size(most).most, momentum, eps
        self.weight = nn.Parameter(torch.ones(self.most)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.most)) if affine else None
        self.register_buffer("running_mean", torch.zeros(self.most))
        self.register_buffer("running_var", torch.ones(self.most))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        width, momentum = x.shape[1], self.momentum
        if self.training:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        return functional.batch_norm(
            x,
            self.running_mean[:width],
            self.running_var[:width],
            None if self.weight is None else self.weight[:width],
            None if self.bias is None else self.bias[:width],
            self.training,
            momentum or 0.0,
            self.eps,
        )

    def plain(self, arch: Arch, width_in: int) -> nn.BatchNorm2d:
        mean, var = self.running_mean[:width_in], self.running_var[:width_in]
        tensors = {
            "weight": torch.ones_like(mean) if self.weight is None else self.weight[:width_in],
            "bias": torch.zeros_like(mean) if self.bias is None else self.bias[:width_in],
            "running_mean": mean,
            "running_var": var,
            "num_batches_tracked": self.num_batches_tracked,
        }
        plain: nn.BatchNorm2d = filled(
            nn.BatchNorm2d,
            tensors,
            self,
            num_features=width_in,
            eps=self.eps,
            momentum=self.momentum,
        )
        return plain

    def own(self, arch: Arch, width_in: int) -> dict[str, Region]:
        return {} if self.weight is None else {n: (slice(width_in),) for n in ("weight", "bias")}


class ElasticLinear(Elastic):
    """(..., features) -> (..., out)."""

    def __init__(self, max_in: Sized, out: Sized, bias: bool = True) -> None:
        super().__init__()
        self.max_in, self.out = size(max_in).most, size(out)
        largest = nn.Linear(self.max_in, self.out.most, bias)
        self.weight, self.bias = largest.weight, largest.bias

    def width_out(self, arch: Arch, width_in: int) -> int:
        return self.out(arch)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        out = self.out(arch)
        bias = None if self.bias is None else self.bias[:out]
        return functional.linear(x, self.weight[:out, : x.shape[-1]], bias)

    def plain(self, arch: Arch, width_in: int) -> nn.Linear:
        out = self.out(arch)
        tensors = {"weight": self.weight[:out, :width_in]}
        if self.bias is not None:
            tensors["bias"] = self.bias[:out]
        plain: nn.Linear = filled(
            nn.Linear,
            tensors,
            self,
            in_features=width_in,
            out_features=out,
            bias=self.bias is not None,
        )
        return plain

    def own(self, arch: Arch, width_in: int) -> dict[str, Region]:
        out = slice(self.out(arch))
        regions: dict[str, Region] = {"weight": (out, slice(width_in))}
        return regions if self.bias is None else {**regions, "bias": (out,)}


def _centre(weight: Tensor, side: int) -> Tensor:
    """(o, i, k, k) -> (o, i, side, side)."""
    rim = (weight.shape[-1] - side) // 2
    return weight[..., rim : rim + side, rim : rim + side]


__all__ = ["ElasticBatchNorm2d", "ElasticConv2d", "ElasticLinear", "Size"]
