"""This module prints texts of others so that none of them can command the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from raynas.core.printable import printable


@dataclass(frozen=True)
class PlainData:
    """Something to print, in which control characters are spelled out.

    Styles stay as they are.

    Attributes:
        inner: What rich is to print.
    """

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.inner)


class AsData:
    """A render hook of rich that turns all that a console prints into :class:`PlainData`."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return the renderables as :class:`PlainData`; rich calls this before it prints.

        Args:
            renderables: What is to be printed.

        Returns:
            The same, with control characters spelled out.
        """
        return [PlainData(one) for one in renderables]


def data_console(**options: object) -> Console:
    """Make a console that prints text as it is: no markup, no emoji, no control characters.

    Args:
        **options: Further options of rich's ``Console``.

    Returns:
        The console.
    """
    console = Console(highlight=False, markup=False, emoji=False, **options)  # type: ignore[arg-type]
    console.push_render_hook(AsData())  # type: ignore[arg-type]
    return console


def show_remarks(remarks: Iterable[str], out: Console) -> None:
    """Print what a user should know, each remark once.

    Args:
        remarks: Sentences; equal ones are printed once.
        out: The console.

    Example:
        >>> import sys
        >>> from rich.console import Console
        >>> show_remarks(["a remark", "a remark"], Console(file=sys.stdout, force_terminal=False))
        a remark
    """
    for remark in dict.fromkeys(remarks):
        out.print(Text(printable(remark), style="yellow"), soft_wrap=True)
