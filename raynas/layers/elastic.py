"""This module has elastic convolution, batch norm and linear layer: slices of the largest one.

Channels are leading slices. A kernel is the center of the largest one, passed through small
matrices if ``transforms`` is on (section 3.3 of Once-for-All: "kernel transformation matrices").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.core import UserError
from raynas.layers.base import Arch, Elastic, ElasticSize, Region, Sized, filled, size


class ElasticConv2d(Elastic):
    """A convolution with elastic channels and kernel, for odd kernels and same padding.

    The shapes are (n, c, h, w) -> (n, out, ceil(h / stride), ceil(w / stride)).

    Args:
        max_in: The largest number of input channels.
        out: The number of output channels.
        kernel: The side of the kernel, odd.
        stride: The stride.
        bias: True for a bias.
        depthwise: True for one filter per input channel; the number of output channels then equals
            that of the input channels.
        transforms: True for kernel transformation matrices: a smaller kernel is the center of the
            next larger one times a matrix, which is initialized as the identity.

    Raises:
        UserError: A kernel is even.

    Example:
        >>> from raynas.core import Choice
        >>> conv = ElasticConv2d(3, Choice("width", (8, 16)), Choice("kernel", (3, 5)), stride=2)
        >>> conv(torch.zeros(1, 3, 8, 8), {"width": 8, "kernel": 3}).shape
        torch.Size([1, 8, 4, 4])
        >>> conv.plain({"width": 8, "kernel": 3}, width_in=3)
        Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)
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
            raise UserError(f"elastic kernels {self.kernel.options}", expected="odd integers")
        groups = self.max_in if depthwise else 1
        largest = nn.Conv2d(self.max_in, self.out.most, self.kernel.most, groups=groups, bias=bias)
        self.weight, self.bias = largest.weight, largest.bias
        smaller = self.kernel.options[:-1] if transforms else ()
        #: One matrix per smaller kernel, which computes it from the next larger one.
        self.transforms = nn.ParameterDict({f"to{k}": torch.eye(k * k) for k in smaller})

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels for ``arch``."""
        return width_in if self.depthwise else self.out(arch)

    def filters(self, arch: Arch, width_in: int) -> Tensor:
        """Return the weight of the plain convolution.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            (out, width_in, kernel, kernel); (out, 1, kernel, kernel) for depthwise convolutions.
        """
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
        """Convolve with the slices that ``arch`` uses.

        Args:
            x: (n, c, h, w).
            arch: The architecture.

        Returns:
            (n, out, ceil(h / stride), ceil(w / stride)).
        """
        weight = self.filters(arch, x.shape[1])
        bias = None if self.bias is None else self.bias[: weight.shape[0]]
        groups = x.shape[1] if self.depthwise else 1
        padding = weight.shape[-1] // 2
        return functional.conv2d(x, weight, bias, self.stride, padding, groups=groups)

    def plain(self, arch: Arch, width_in: int) -> nn.Conv2d:
        """Return a plain convolution with copies of the slices that ``arch`` uses.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            A convolution of ``width_in`` input channels.
        """
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
        """Return the regions of weight, bias and transformation matrices that ``arch`` uses.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            Name of a parameter -> region.
        """
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
        """Return the sides of the kernels between the largest one and one of ``side``."""
        if not self.transforms:
            return iter(() if side == self.kernel.most else (side,))
        return (k for k in reversed(self.kernel.options[:-1]) if k >= side)


class ElasticBatchNorm2d(Elastic):
    """A batch norm with elastic channels: the leading weights and statistics are used.

    Args:
        most: The largest number of channels.
        affine: False for no weight and no bias, as Ning et al. advise for the cells of a supernet;
            the plain layer has them nevertheless, one and zero, so that they can be trained.
        momentum: The momentum of the statistics; None averages all batches evenly.
        eps: The number added to the variance.
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
        """Return ``width_in``, since the layer keeps its channels."""
        return width_in

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Normalize with the leading weights and statistics, updated in train mode.

        Args:
            x: (n, c, h, w).
            arch: The architecture; not used.

        Returns:
            (n, c, h, w).
        """
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
        """Return a plain batch norm with copies of the leading weights and statistics.

        Args:
            arch: The architecture; not used.
            width_in: The number of channels.

        Returns:
            A batch norm with weight and bias.
        """
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
        """Return the regions of weight and bias; without an affine part there are none.

        Args:
            arch: The architecture; not used.
            width_in: The number of channels.

        Returns:
            Name of a parameter -> region.
        """
        return {} if self.weight is None else {n: (slice(width_in),) for n in ("weight", "bias")}


class ElasticLinear(Elastic):
    """A linear layer with elastic features: (..., features) -> (..., out).

    Args:
        max_in: The largest number of input features.
        out: The number of output features.
        bias: True for a bias.

    Example:
        >>> from raynas.core import Choice
        >>> linear = ElasticLinear(8, Choice("out", (2, 4)))
        >>> linear(torch.zeros(1, 6), {"out": 2}).shape
        torch.Size([1, 2])
    """

    def __init__(self, max_in: Sized, out: Sized, bias: bool = True) -> None:
        super().__init__()
        self.max_in, self.out = size(max_in).most, size(out)
        largest = nn.Linear(self.max_in, self.out.most, bias)
        self.weight, self.bias = largest.weight, largest.bias

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output features for ``arch``."""
        return self.out(arch)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Multiply by the slices that ``arch`` uses.

        Args:
            x: (..., features).
            arch: The architecture.

        Returns:
            (..., out).
        """
        out = self.out(arch)
        bias = None if self.bias is None else self.bias[:out]
        return functional.linear(x, self.weight[:out, : x.shape[-1]], bias)

    def plain(self, arch: Arch, width_in: int) -> nn.Linear:
        """Return a plain linear layer with copies of the slices that ``arch`` uses.

        Args:
            arch: The architecture.
            width_in: The number of input features.

        Returns:
            A linear layer of ``width_in`` input features.
        """
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
        """Return the regions of weight and bias that ``arch`` uses.

        Args:
            arch: The architecture.
            width_in: The number of input features.

        Returns:
            Name of a parameter -> region.
        """
        out = slice(self.out(arch))
        regions: dict[str, Region] = {"weight": (out, slice(width_in))}
        return regions if self.bias is None else {**regions, "bias": (out,)}


def _centre(weight: Tensor, side: int) -> Tensor:
    """Return the center of kernels: (o, i, k, k) -> (o, i, side, side)."""
    rim = (weight.shape[-1] - side) // 2
    return weight[..., rim : rim + side, rim : rim + side]


__all__ = ["ElasticBatchNorm2d", "ElasticConv2d", "ElasticLinear", "ElasticSize"]
