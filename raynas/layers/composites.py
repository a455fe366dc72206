"""Composites of elastic and plain modules: in a row, one of several, the first few, a sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from raynas.core import Choice, Option, UserError, one_of
from raynas.layers.base import Arch, Elastic, Part, Sized, plain_of, run, size, width_after
from raynas.layers.channels import ChannelFlow, ChannelTracer, follow_by, sort_within


class Sequential(Elastic):
    """One module after the other, elastic ones and plain ones."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)

    def sort_channels(self) -> None:
        sort_within(self)

    def length(self, arch: Arch) -> int:
        """How many of the modules run."""
        return len(self.steps)

    def width_out(self, arch: Arch, width_in: int) -> int:
        for step in self.steps[: self.length(arch)]:
            width_in = width_after(step, arch, width_in)
        return width_in

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        for step in self.steps[: self.length(arch)]:
            x = run(step, x, arch)
        return x

    def plain(self, arch: Arch, width_in: int) -> nn.Sequential:
        parts = self.parts(arch, width_in)
        return nn.Sequential(*(plain_of(p.module, arch, p.width_in) for p in parts))

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        for number, step in enumerate(self.steps[: self.length(arch)]):
            yield Part(f"steps.{number}", step, width_in)
            width_in = width_after(step, arch, width_in)


class Repeat(Sequential):
    """The first ``depth`` of ``blocks``. Raises: UserError when there are too few of them."""

    def __init__(self, depth: Sized, blocks: Sequence[nn.Module]) -> None:
        super().__init__(*blocks)
        self.depth = size(depth)
        if len(blocks) != self.depth.most:
            raise UserError(
                f"{len(blocks)} blocks for depths {self.depth.options}",
                cure=f"give {self.depth.most} blocks",
            )

    def length(self, arch: Arch) -> int:
        return self.depth(arch)


class OneOf(Elastic):
    """The module that belongs to the option of ``choice``; the others are not touched.

    ``choice``: a choice, or its name. Raises: UserError when an option of it has no module.
    """

    def __init__(self, choice: Choice | str, modules: Mapping[Option, nn.Module]) -> None:
        super().__init__()
        self.choice = choice.name if isinstance(choice, Choice) else choice
        for option in choice.options if isinstance(choice, Choice) else ():
            if option not in modules:
                raise one_of(f"module of choice {self.choice!r}", option, modules)
        # a list, because the names of a dict of modules may hold no dot
        self.options = tuple(modules)
        self.modules_of = nn.ModuleList(modules.values())

    def sort_channels(self) -> None:
        sort_within(self)

    def chosen(self, arch: Arch) -> nn.Module:
        return self.modules_of[self._index(arch)]

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_after(self.chosen(arch), arch, width_in)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        return run(self.chosen(arch), x, arch)

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        return plain_of(self.chosen(arch), arch, width_in)

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        yield Part(f"modules_of.{self._index(arch)}", self.chosen(arch), width_in)

    def _index(self, arch: Arch) -> int:
        option = arch[self.choice]
        if option not in self.options:
            raise one_of(f"option for {self.choice!r}", option, self.options)
        return self.options.index(option)


class Residual(Elastic):
    """``body(x) + shortcut(x)``; the shortcut is the identity if none is given."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def sort_channels(self) -> None:
        sort_within(self)

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_after(self.body, arch, width_in)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Raises: UserError when body and shortcut give tensors of different shapes."""
        out, short = run(self.body, x, arch), run(self.shortcut, x, arch)
        if out.shape != short.shape:
            raise UserError(
                f"Residual: its body gives {tuple(out.shape)}, its shortcut "
                f"({type(self.shortcut).__name__}) {tuple(short.shape)}",
                cure="give it shortcut=..., with the stride and the width of the body, as "
                "Sequential(ElasticConv2d(max_in, out, 1, stride=2), ElasticBatchNorm2d(out))",
            )
        return out + short

    def plain(self, arch: Arch, width_in: int) -> nn.Module:
        return Sum(*(plain_of(p.module, arch, width_in) for p in self.parts(arch, width_in)))

    def parts(self, arch: Arch, width_in: int) -> Iterator[Part]:
        yield Part("body", self.body, width_in)
        yield Part("shortcut", self.shortcut, width_in)


class Sum(nn.Module):
    """``body(x) + shortcut(x)``: what ``Residual`` becomes when it is extracted."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Flatten(Elastic):
    """(n, c, h, w) -> (n, c * positions), with h * w = ``positions``; 1 after a global pool."""

    def __init__(self, positions: int = 1) -> None:
        super().__init__()
        self.positions = positions

    def width_out(self, arch: Arch, width_in: int) -> int:
        return width_in * self.positions

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        if x.shape[2:].numel() != self.positions:
            raise UserError(
                f"Flatten(positions={self.positions}) of maps with {tuple(x.shape[2:])} positions",
                cure="put a pool of known size before it, as nn.AdaptiveAvgPool2d(1)",
            )
        return x.flatten(1)

    def plain(self, arch: Arch, width_in: int) -> nn.Flatten:
        return nn.Flatten()


@follow_by(Sequential, Repeat)
def _follow_chain(tracer: ChannelTracer, module: Sequential, at: ChannelFlow) -> ChannelFlow:
    """A repeated block may be the last one, so that all of them give the same channels."""
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
