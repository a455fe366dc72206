"""This module holds what all runners on Ray share.

It starts or joins a cluster, counts how many workers fit on it, and keeps the data on it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raynas.core import Architecture, Job, UserError
from raynas.core.describe import fresh
from raynas.core.printable import printable
from raynas.data.base import DataView
from raynas.evaluators.abilities import assets_of, weights_version_of
from raynas.runners.base import JobOutcome, Resources, Runner
from raynas.runners.gpus import GpuDecision
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.actor_pool import ActorPool
from raynas.runners.ray.autoscaling import AutoscalerRequest
from raynas.runners.ray.lost_nodes import LostMachines, WordsInto
from raynas.runners.ray.shared_context import SharedContext
from raynas.runners.ray.tasks import ActorTask, TaskSource
from raynas.search.context import EvaluationContext

environment.prepare()  # before Ray is imported

import ray  # noqa: E402

_ADDRESSES = "'auto' on a machine of the cluster, or host:port"


@dataclass
class ClusterRunner(Runner):
    """The base class of runners on Ray: on this machine, or on a cluster.

    Attributes:
        resources: The resources of one trial.
        address: The cluster to join (``auto``, ``host:port``); None starts Ray on this machine.
        modules: Python modules whose code workers cannot import (the experiment's own file).
        spare: So many trials fewer run at once than the machines hold.
        decision: The decision about GPUs, which all runners of one run share.
        losses: The lost machines, which all runners of one run share.
        log: A file for what Ray would print; None leaves that to Ray.
    """

    resources: Resources = field(default_factory=Resources)
    address: str | None = None
    modules: tuple[Any, ...] = ()
    spare: int = field(default=0, kw_only=True)
    decision: GpuDecision = field(default_factory=GpuDecision, kw_only=True, repr=False)
    losses: LostMachines = field(default_factory=LostMachines, kw_only=True, repr=False)
    log: Path | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._joined = False  # False: Ray belongs to other code of this process
        self._session: Path | None = None
        self._folder: Path | None = None
        self._gpus = 0.0
        self._shared_view: tuple[DataView, Any] | None = None
        self._pool: tuple[EvaluationContext, ActorPool] | None = None
        self._words = contextlib.ExitStack()

    def evaluate(
        self, payload: EvaluationContext, jobs: Sequence[tuple[Architecture, Job]]
    ) -> list[list[JobOutcome]]:
        """Evaluate jobs by actors that take no CPU from Ray, so they never wait for trials to end.

        They compute on CPUs, except for evaluators that measure times: these use the devices of the
        trials.
        """
        self.open()
        answers = _Answers(jobs)
        try:
            self._crew(payload).carry_out(answers)
        except BaseException:  # the next call must not get answers to this one
            self._dismiss()
            raise
        return answers.found

    def _crew(self, payload: EvaluationContext) -> ActorPool:
        if self._pool is None or self._pool[0] is not payload:
            self._dismiss()
            free = {"num_cpus": 0.0, "num_gpus": 0.0}
            gpus = self._gpus if payload.evaluator.exclusive else 0.0
            crew = ActorPool(self.share(payload), free, self._size(payload), retries=1, gpus=gpus)
            self._pool = payload, crew
        return self._pool[1]

    def _dismiss(self) -> None:
        if self._pool is not None:
            self._pool[1].dismiss()
            self._pool = None

    def share(self, payload: EvaluationContext) -> SharedContext:
        """Put a payload where workers find it.

        The evaluator is a new copy: one that was set up here would also hold the images.

        Args:
            payload: The space, the evaluator and the data view.

        Returns:
            The payload, with images and assets as references into Ray's object store.
        """
        if self._shared_view is None or self._shared_view[0] is not payload.view:
            self._shared_view = payload.view, ray.put(payload.view)
        evaluator = fresh(payload.evaluator)
        assets = assets_of(evaluator)
        kept = ray.put(dict(assets)) if assets else None
        version = weights_version_of(evaluator) or ""
        return SharedContext(payload.space, evaluator, self._shared_view[1], kept, version)

    def hire(
        self, payload: EvaluationContext, *, ahead: bool = True, patience: float | None = None
    ) -> ActorPool:
        """Make a pool of actors that have the resources of trials, and the payload.

        Args:
            payload: The space, the evaluator and the data view.
            ahead: True gives an actor its next jobs before it has finished the last; see
                :class:`ActorPool`.
            patience: Seconds without a message after which an actor is taken for dead; None waits.

        Returns:
            The pool; its actors are started when they are needed.

        Raises:
            UserError: If nobody can say whether there are GPUs.
        """
        self._check_gpus()
        options: dict[str, float] = {"num_cpus": self.resources.cpus, "num_gpus": self._gpus}
        if self._memory:
            options["memory"] = self._memory
        return ActorPool(
            self.share(payload),
            options,
            self._size(payload),
            retries=self.resources.retries,
            ahead=ahead,
            patience=patience,
            grows=machines.CachedQuery(self._grows),
        )

    def bring_machine(self, patience: float) -> bool:
        """Have the autoscaler bring a machine that a trial fits on.

        Args:
            patience: Seconds to wait for it.

        Returns:
            True if a machine with CPUs came in time.

        Raises:
            UserError: If nobody can say whether it should have GPUs.
        """
        self._check_gpus()
        demand, deadline = AutoscalerRequest(self._bundle(1)), time.monotonic() + patience
        demand.ask(1)
        try:
            while not machines.with_cpus():
                if time.monotonic() > deadline:
                    return False
                time.sleep(1.0)
        finally:
            demand.withdraw()
        return True

    def _check_gpus(self) -> None:
        """Check that it is known whether there are GPUs.

        Raises:
            UserError: If the first machine is still to come, and may have GPUs or not.
        """
        open_question = self.resources.gpus in (None, "fit") and self.decision.share is None
        if open_question and machines.managed() and not machines.with_cpus():
            raise UserError(
                f"resources.gpus={self.resources.gpus}, but no machine is up yet that would show "
                "whether there are GPUs",
                expected="0, or what a trial gets: 1, or 0.25 for four on one GPU",
                hint="--set resources.gpus=0.25",
            )

    def _grows(self) -> bool:
        """Return True if an autoscaler is to be asked for more machines."""
        joined = self.address is not None and self.resources.concurrent is None
        return joined and machines.managed()

    def _size(self, payload: EvaluationContext) -> Callable[[], int]:
        """Return a function for how many actors there may be, as machines join and leave."""
        return (lambda: 1) if payload.evaluator.exclusive else machines.CachedQuery(self._slots)

    def clock(self) -> float:
        """Return the seconds of this machine's monotonic clock."""
        return time.monotonic()

    def remarks(self) -> tuple[str, ...]:
        """Return no remarks."""
        return ()

    def open(self) -> None:
        """Start Ray on this machine, or join the cluster at ``address``.

        A Ray that this process has joined before is used as it is.

        Raises:
            UserError: If Ray does not start, no cluster answers, or this machine has fewer CPUs or
                GPUs than ``resources`` ask for.
        """
        for module in self.modules:
            ray.cloudpickle.register_pickle_by_value(module)
        if ray.is_initialized():
            self._take_resources()
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with contextlib.ExitStack() as words:
            if self.log is not None:
                words.enter_context(WordsInto(self.log))
            if self.address is None:
                self._start(quiet)
            else:
                self._join(self.address, quiet)
                self.losses.watch(ray.nodes)
            self._words = words.pop_all()
        self._joined = True
        self._take_resources()

    def _start(self, quiet: dict[str, Any]) -> None:
        """Start a Ray for this machine alone.

        Raises:
            UserError: If it does not start.
        """
        self._folder = environment.short_folder()
        if self._folder is not None:
            quiet = {**quiet, "_temp_dir": str(self._folder / "ray")}
        environment.prepare_to_start()
        try:
            with environment.on_loopback():
                ray.init(address="local", include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises a plain Exception if the start takes too long
            self._remove_folder()
            raise UserError(
                f"Ray does not start on this machine: {printable(str(error))[:300]}",
                hint="set RAY_TMPDIR to a folder that can be written, or use --local",
            ) from error
        node = ray._private.worker._global_node
        self._session = Path(node.get_session_dir_path()) if node else None

    def _join(self, address: str, quiet: dict[str, Any]) -> None:
        """Join the cluster at ``address``.

        Raises:
            UserError: If no cluster answers there.
        """
        environment.prepare_to_join()
        try:
            _knock(address)
            ray.init(address=address, **quiet)
        except OSError as error:
            raise UserError(
                f"no Ray cluster answers at {address!r}",
                expected=_ADDRESSES,
                hint="start one with `ray start --head` or `ray up cluster.yaml`",
            ) from error

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _take_resources(self) -> None:
        have = ray.cluster_resources()
        seen = not machines.managed() or bool(machines.with_cpus())
        self._gpus = self.decision.of(self.resources.gpus, have.get("GPU", 0.0), known=seen)
        if self.resources.cpus > have.get("CPU", 0.0) and self.address is None:
            raise UserError(
                f"resources.cpus={self.resources.cpus:g} on a machine with {have.get('CPU', 0):g}",
                expected=f"up to {have.get('CPU', 0):g}",
                hint="--set resources.cpus=1",
            )
        if self._gpus > have.get("GPU", 0.0) and self.address is None:
            raise UserError(
                f"resources.gpus={self._gpus:g}, but Ray sees {have.get('GPU', 0):g} GPUs here",
                hint="--set resources.gpus=0",
            )

    def _bundle(self, processes: int) -> dict[str, float]:
        """Return what Ray reserves for an evaluation by so many processes; each has its own GPUs.

        Raises:
            UserError: If no machine has as much.
        """
        gpus = self._gpus if processes == 1 else float(math.ceil(self._gpus))
        wanted = {"CPU": processes * self.resources.cpus, "GPU": processes * gpus}
        if self._memory:
            wanted["memory"] = self._memory
        nodes = [node["Resources"] for node in machines.alive()]
        found = any(
            all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in nodes
        )
        if processes > 1 and not found and not self._grows():
            units = {
                "memory": (1e-9, " GB of memory"),
                "CPU": (1.0, " CPUs"),
                "GPU": (1.0, " GPUs"),
            }
            shown = " and ".join(
                f"{amount * units[kind][0]:g}{units[kind][1]}"
                for kind, amount in wanted.items()
                if amount
            )
            raise UserError(
                f"{processes} processes that train together need {shown} on one machine",
                hint="fewer processes, or --set resources.cpus=0.5",
            )
        return wanted

    @property
    def _memory(self) -> int:
        """The bytes of main memory that are reserved for each worker, whatever it does."""
        wanted = self.resources.memory
        return 0 if wanted is None or wanted == "fit" else int(wanted * 1e9)

    def _slots(self, gpus: float | None = None) -> int:
        """Return how many trials run at once: as many as the machines hold, or as many as allowed.

        Args:
            gpus: The smallest share of a GPU that a trial may have, if not the usual one.
        """
        if self.resources.concurrent is not None:
            return self.resources.concurrent
        have = ray.cluster_resources()
        fits = [have.get("CPU", 1.0) / self.resources.cpus]
        if least := self._gpus if gpus is None else gpus:
            fits.append(have.get("GPU", 0.0) / least)
        if self._memory:
            fits.append(have.get("memory", 0.0) / self._memory)
        return max(1, int(min(fits)) - self.spare)

    def close(self) -> None:
        """End the actors, leave the cluster, and remove the files of a Ray started here."""
        self._dismiss()
        self._shared_view = None
        if self._joined:
            self.losses.close()
            ray.shutdown()
            self._joined = False
        self._words.close()
        if self._session is not None:  # every private ray.init leaves a folder behind
            shutil.rmtree(self._session, ignore_errors=True)
            self._session = None
        self._remove_folder()


def _knock(address: str) -> None:
    """Check quickly that something listens at the address; Ray itself would try for minutes.

    Raises:
        OSError: If nothing listens at host:port.
        UserError: For an address of Ray's client, through which a search would lose its workers
            with the connection.
    """
    if "://" in address:
        raise UserError(
            f"address {address!r}",
            expected=_ADDRESSES,
            hint="from outside: `ray job submit --address http://HEAD:8265 -- raynas ...`",
        )
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port[:20])), timeout=10).close()
        except (UnicodeError, OverflowError) as error:  # neither a host name nor a port
            raise OSError(str(error)) from None


class _Answers(TaskSource):
    """A fixed list of jobs as a source of tasks.

    ``found`` has a list of outcomes for each job.
    """

    def __init__(self, jobs: Sequence[tuple[Architecture, Job]]) -> None:
        self.found: list[list[JobOutcome]] = [[] for _ in jobs]
        self._tasks = [ActorTask(arch, job) for arch, job in jobs]
        self._places = {id(task): place for place, task in enumerate(self._tasks)}
        self._given = self._ended = 0

    @property
    def over(self) -> bool:
        return self._ended == len(self._tasks)

    def next(self) -> ActorTask | None:
        if self._given == len(self._tasks):
            return None
        self._given += 1
        return self._tasks[self._given - 1]

    @property
    def left(self) -> int:
        return 0  # no machine is worth to be started for them

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def share(self, workers: int) -> int:
        return (len(self._tasks) - self._given) // (2 * workers)

    def take(self, found: Sequence[tuple[ActorTask, JobOutcome]]) -> None:
        for task, outcome in found:
            self._ended += outcome.measurement is None
            if outcome.measurement is not None or outcome.failure:
                self.found[self._places[id(task)]].append(outcome)

    def again(self, task: ActorTask) -> None:
        self.found[self._places[id(task)]].clear()

    def lose(self, task: ActorTask, message: str) -> None:
        self.take([(task, JobOutcome(failure=message))])
