"""This module has composites of elastic and plain modules: chain, choice, repetition and sum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from raynas.core import Choice, Option, UserError, unknown_option
from raynas.layers.base import Arch, Elastic, ElasticPart, Sized, plain_of, run, size, width_after
from raynas.layers.channels import ChannelFlow, ChannelTracer, follow_by, sort_within


class ElasticChain(Elastic):
    """A chain of elastic and plain modules, of which the leading ones run.

    Args:
        modules: The modules in the order of the forward pass.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)

    @abstractmethod
    def length(self, arch: Arch) -> int:
        """Return the number of modules that run.

        Args:
            arch: The architecture.

        Returns:
            The length of the leading part of the chain.
        """

    def sort_own_channels(self) -> None:
        """Sort the channels between the modules by importance."""
        sort_within(self)

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels of the last module that runs."""
        for step in self.steps[: self.length(arch)]:
            width_in = width_after(step, arch, width_in)
        return width_in

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Run the modules one after the other."""
        for step in self.steps[: self.length(arch)]:
            x = run(step, x, arch)
        return x

    def plain(self, arch: Arch, width_in: int) -> nn.Sequential:
        """Return the plain modules as one chain.

        Args:
            arch: The architecture.
            width_in: The number of input channels.

        Returns:
            A chain of the modules that run.
        """
        parts = self.parts(arch, width_in)
        return nn.Sequential(*(plain_of(p.module, arch, p.width_in) for p in parts))

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the modules that run.

        Yields:
            Each module with the output channels of the one before.
        """
        for number, step in enumerate(self.steps[: self.length(arch)]):
            yield ElasticPart(f"steps.{number}", step, width_in)
            width_in = width_after(step, arch, width_in)


class Sequential(ElasticChain):
    """A chain of elastic and plain modules.

    Args:
        modules: The modules in the order of the forward pass.
    """

    def length(self, arch: Arch) -> int:
        """Return the number of all modules."""
        return len(self.steps)


class Repeat(ElasticChain):
    """A chain of blocks of which the first ``depth`` run.

    Args:
        depth: The number of blocks that run.
        blocks: As many blocks as the largest depth.

    Raises:
        UserError: The number of blocks differs from the largest depth.
    """

    def __init__(self, depth: Sized, blocks: Sequence[nn.Module]) -> None:
        super().__init__(*blocks)
        self.depth = size(depth)
        if len(blocks) != self.depth.most:
            raise UserError(
                f"{len(blocks)} blocks for depths {self.depth.options}",
                hint=f"give {self.depth.most} blocks",
            )

    def length(self, arch: Arch) -> int:
        """Return the depth for ``arch``."""
        return self.depth(arch)


class OneOf(Elastic):
    """A set of modules of which the one for the option of ``choice`` runs.

    Args:
        choice: A choice, or its name.
        modules: Option -> module.

    Raises:
        UserError: An option of the choice has no module.
    """

    def __init__(self, choice: Choice | str, modules: Mapping[Option, nn.Module]) -> None:
        super().__init__()
        self.choice = choice.name if isinstance(choice, Choice) else choice
        for option in choice.options if isinstance(choice, Choice) else ():
            if option not in modules:
                raise unknown_option(f"module of choice {self.choice!r}", option, modules)
        # a list, because the keys of a dict of modules must not contain a dot
        self.options = tuple(modules)
        self.modules_of = nn.ModuleList(modules.values())

    def sort_own_channels(self) -> None:
        """Sort the channels within the modules by importance."""
        sort_within(self)

    def chosen(self, arch: Arch) -> nn.Module:
        """Return the module for the option of ``arch``.

        Args:
            arch: The architecture.

        Returns:
            One of the modules.

        Raises:
            UserError: No module belongs to the option.
        """
        return self.modules_of[self._index(arch)]

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels of the chosen module."""
        return width_after(self.chosen(arch), arch, width_in)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Run the chosen module; the others are not used."""
        return run(self.chosen(arch), x, arch)

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        """Return the plain form of the chosen module."""
        return plain_of(self.chosen(arch), arch, width_in)

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the chosen module.

        Yields:
            One part.
        """
        yield ElasticPart(f"modules_of.{self._index(arch)}", self.chosen(arch), width_in)

    def _index(self, arch: Arch) -> int:
        option = arch[self.choice]
        if option not in self.options:
            raise unknown_option(f"option for {self.choice!r}", option, self.options)
        return self.options.index(option)


class Residual(Elastic):
    """A sum of a module and a shortcut: ``body(x) + shortcut(x)``.

    Args:
        body: The module.
        shortcut: The shortcut; None for the identity.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def sort_own_channels(self) -> None:
        """Sort the channels within the body by importance."""
        sort_within(self)

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output channels of the body."""
        return width_after(self.body, arch, width_in)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Add the outputs of body and shortcut.

        Args:
            x: (n, channels, height, width).
            arch: The architecture.

        Returns:
            (n, width_out, height', width').

        Raises:
            UserError: Body and shortcut give tensors of different shapes.
        """
        out, short = run(self.body, x, arch), run(self.shortcut, x, arch)
        if out.shape != short.shape:
            raise UserError(
                f"Residual: its body gives {tuple(out.shape)}, its shortcut "
                f"({type(self.shortcut).__name__}) {tuple(short.shape)}",
                hint="give it shortcut=..., with the stride and the width of the body, as "
                "Sequential(ElasticConv2d(max_in, out, 1, stride=2), ElasticBatchNorm2d(out))",
            )
        return out + short

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        """Return the plain body and shortcut as a :class:`ResidualSum`."""
        return ResidualSum(
            *(plain_of(p.module, arch, width_in) for p in self.parts(arch, width_in))
        )

    def parts(self, arch: Arch, width_in: int) -> Iterator[ElasticPart]:
        """Yield the body and the shortcut.

        Yields:
            Two parts with the same input channels.
        """
        yield ElasticPart("body", self.body, width_in)
        yield ElasticPart("shortcut", self.shortcut, width_in)


class ResidualSum(nn.Module):
    """A plain sum of a module and a shortcut: the plain form of :class:`Residual`.

    Args:
        body: The module.
        shortcut: The shortcut.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Add the outputs of body and shortcut.

        Args:
            x: The input of both.

        Returns:
            The sum, of the shape of the body's output.
        """
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Flatten(Elastic):
    """A layer that joins channels and positions: (n, c, h, w) -> (n, c * positions).

    Args:
        positions: The number of positions per channel, h * w; 1 after a global pool.
    """

    def __init__(self, positions: int = 1) -> None:
        super().__init__()
        self.positions = positions

    def width_out(self, arch: Arch, width_in: int) -> int:
        """Return the number of output features.

        Args:
            arch: The architecture; not used.
            width_in: The number of input channels.

        Returns:
            ``width_in * positions``.
        """
        return width_in * self.positions

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Flatten all dimensions but the first.

        Args:
            x: (n, c, h, w).
            arch: The architecture; not used.

        Returns:
            (n, c * h * w).

        Raises:
            UserError: h * w differs from ``positions``.
        """
        if x.shape[2:].numel() != self.positions:
            raise UserError(
                f"Flatten(positions={self.positions}) of maps with {tuple(x.shape[2:])} positions",
                hint="put a pool of known size before it, as nn.AdaptiveAvgPool2d(1)",
            )
        return x.flatten(1)

    def plain(self, arch: Arch, width_in: int) -> nn.Flatten:
        """Return a new ``nn.Flatten``."""
        return nn.Flatten()


@follow_by(Sequential, Repeat)
def _follow_chain(tracer: ChannelTracer, module: ElasticChain, at: ChannelFlow) -> ChannelFlow:
    """Follow a chain; each block of a repetition may be the last, so all give the same channels."""
    ends = [at] if isinstance(module, Repeat) and 0 in module.depth.options else []
    for number, step in enumerate(module.steps, start=1):
        at = tracer.follow(step, at)
        if not isinstance(module, Repeat) or number in module.depth.options:
            ends.append(at)
    return tracer.join(ends if isinstance(module, Repeat) else [at])


@follow_by(OneOf)
def _follow_one(tracer: ChannelTracer, module: OneOf, at: ChannelFlow) -> ChannelFlow:
    return tracer.join([tracer.follow(inner, at) for inner in module.modules_of])


@follow_by(Residual)
def _follow_residual(tracer: ChannelTracer, module: Residual, at: ChannelFlow) -> ChannelFlow:
    return tracer.join([tracer.follow(inner, at) for inner in (module.body, module.shortcut)])


@follow_by(Flatten)
def _follow_flatten(_: ChannelTracer, module: Flatten, at: ChannelFlow) -> ChannelFlow:
    return replace(at, positions=at.positions * module.positions, row=True)
