"""This module has what a pool knows of one of its actors."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raynas.runners.ray.tasks import ActorTask


@dataclass(eq=False)
class ActorChunk:
    """Tasks that an actor was given by one call.

    ``left``: index -> task that has not ended. ``sign``: the message that the actor comes to this
    chunk, None once it has arrived; a chunk that it has not come to has not killed it. ``parts``:
    the stream of outcomes.
    """

    left: dict[int, ActorTask]
    sign: Any
    parts: Any


@dataclass(eq=False)
class ActorHandle:
    """An actor handle: an actor and the chunks that it was given.

    ``number``: how many actors were started before it. ``starting``: the answer to await when it is
    set up, or asked if it is still there. ``heard``: when it last sent a message, or got something
    to do. ``node``: the machine that was chosen for it, if one was. ``fate``: the error that ended
    it, once known. ``refused``: it could not be given anything, and has said nothing since.
    """

    actor: Any
    number: int
    starting: Any
    heard: float
    node: str | None = None
    chunks: deque[ActorChunk] = field(default_factory=deque)
    process: int = 0
    fate: Exception | None = None
    refused: bool = False

    @property
    def able(self) -> bool:
        """True if it may be given tasks: it answered when it was last asked."""
        return self.starting is None and self.fate is None and not self.refused

    @contextlib.contextmanager
    def surviving(self) -> Iterator[None]:
        """Take an error in this context as the end of this actor, and of no other."""
        try:
            yield
        except Exception as error:
            self.fate = error

    @property
    def awaited(self) -> Any:
        """The reference of its next message; None when it has nothing to say."""
        if self.starting is not None or not self.chunks:
            return self.starting
        chunk = self.chunks[0]
        return chunk.parts if chunk.sign is None else chunk.sign
