"""What is printed holds texts of others: none of them may command the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from raynas.core.printable import printable


@dataclass(frozen=True)
class Data:
    """Something to print, in which control characters are spelled. Styles stay as they are."""

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
    """A hook of rich: all that a console prints is :class:`Data`."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [Data(one) for one in renderables]


def data_console(**options: object) -> Console:
    """A console that prints text as it is: no markup, no emoji, no control characters."""
    console = Console(highlight=False, markup=False, emoji=False, **options)  # type: ignore[arg-type]
    console.push_render_hook(AsData())  # type: ignore[arg-type]
    return console


def show_remarks(remarks: Iterable[str], out: Console) -> None:
    """Print what a user should know, each remark once."""
    for remark in dict.fromkeys(remarks):
        out.print(Text(printable(remark), style="yellow"), soft_wrap=True)
