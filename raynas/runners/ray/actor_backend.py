"""This module starts and calls actors for a pool: the contract, and its form for Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

from raynas.core import Architecture, Job
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.actor_worker import ActorWorker, Part
from raynas.runners.ray.shared_context import SharedContext

environment.prepare()  # before Ray is imported

import ray  # noqa: E402


class ActorBackend(ABC):
    """The operations that a pool needs of the system that runs its actors.

    An actor carries out its calls in their order. Its messages are awaited by reference: an answer,
    or a stream of parts.
    """

    @abstractmethod
    def freest_node(self, taken: Mapping[str, int], *, gpus: bool) -> str | None:
        """Return the machine for the next actor, where actors reserve nothing.

        Args:
            taken: Id of a machine -> number of actors there.
            gpus: Whether it must have a GPU.

        Returns:
            Its id; None where any will do.
        """

    @abstractmethod
    def known_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that the system knows.

        Returns:
            The ids, those of machines that were lost a moment ago among them.
        """

    @abstractmethod
    def answering_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that answer now.

        Returns:
            The ids.
        """

    @abstractmethod
    def hire(
        self,
        shared: SharedContext,
        gpus: float,
        options: Mapping[str, float],
        node: str | None = None,
    ) -> Any:
        """Start a :class:`~raynas.runners.ray.actor_worker.ActorWorker`.

        Args:
            shared: The payload.
            gpus: The share of a GPU; 0 for the CPU.
            options: Ray's options of the actor.
            node: Id of the machine to start it on, if there is room; None for any.

        Returns:
            The actor, before it is set up.
        """

    @abstractmethod
    def ready(self, actor: Any) -> Any:
        """Ask the actor for the id of its process.

        Args:
            actor: The actor.

        Returns:
            The answer to await.
        """

    @abstractmethod
    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None
    ) -> Any:
        """Have the actor evaluate a chunk.

        Args:
            actor: The actor.
            chunk: The architectures, each with its job.
            shared: The payload to evaluate with; None takes the one of the set-up.

        Returns:
            The stream of parts to await.
        """

    @abstractmethod
    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Wait until one of several references can be read.

        Args:
            awaited: The references.
            seconds: The longest time to wait.

        Returns:
            All references that can be read.
        """

    @abstractmethod
    def answer(self, awaited: Any) -> int:
        """Read an answer that has arrived.

        Args:
            awaited: The reference.

        Returns:
            The id of the actor's process.

        Raises:
            Exception: The error that ended the actor.
        """

    @abstractmethod
    def part(self, awaited: Any) -> Part:
        """Read the next part of a stream.

        Args:
            awaited: The stream.

        Returns:
            Pairs of an index in the chunk and an outcome, and the seconds that they took.

        Raises:
            Exception: The error that ended the actor or the evaluation.
        """

    @abstractmethod
    def kill(self, actor: Any) -> None:
        """End the actor at once, if it is not dead yet.

        Args:
            actor: The actor.
        """


@final
class RayActors(ActorBackend):
    """The actors of the Ray that this process has joined."""

    def freest_node(self, taken: Mapping[str, int], *, gpus: bool) -> str | None:
        """Return the machine with the most free cores, or GPUs."""
        return machines.freest(taken, gpus=gpus)

    def known_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that Ray knows."""
        return machines.known()

    def answering_nodes(self) -> frozenset[str]:
        """Return the ids of the machines that carry out a small task now."""
        return machines.answering()

    def hire(
        self,
        shared: SharedContext,
        gpus: float,
        options: Mapping[str, float],
        node: str | None = None,
    ) -> Any:
        """Start a Ray actor."""
        strategy = {} if node is None else {"scheduling_strategy": machines.near(node)}
        actor: Any = ray.remote(ActorWorker)
        return actor.options(**options, **strategy).remote(shared, gpus)

    def ready(self, actor: Any) -> Any:
        """Ask the actor for the id of its process."""
        return actor.ready.remote()

    def evaluate(
        self, actor: Any, chunk: Sequence[tuple[Architecture, Job]], shared: SharedContext | None
    ) -> Any:
        """Have the actor evaluate a chunk, as a streaming call."""
        return actor.evaluate.remote(chunk, *([] if shared is None else [shared]))

    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Wait until one of several object references can be read."""
        ray.wait(list(awaited), num_returns=1, timeout=seconds)
        ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        return ready

    def answer(self, awaited: Any) -> int:
        """Read an answer that has arrived."""
        process: int = ray.get(awaited)
        return process

    def part(self, awaited: Any) -> Part:
        """Read the next part of a stream."""
        part: Part = ray.get(next(awaited))
        return part

    def kill(self, actor: Any) -> None:
        """End the actor at once."""
        ray.kill(actor)
