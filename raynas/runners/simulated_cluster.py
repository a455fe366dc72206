"""This module has the settings of a simulated cluster, and the account of its workers' time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from raynas.core import UserError

Kind = Literal["starting", "working", "down"]


@dataclass(frozen=True)
class SimulatedCluster:
    """The settings of a simulated cluster.

    Rates are events per hour in which a worker computes. Whatever ends a worker, its trial goes on
    from its last checkpoint on the first worker that is free. This counts against
    ``resources.retries`` until the trial is measured again, as on Ray.

    Attributes:
        workers: The number of workers.
        startup_s: Seconds before a worker's first job, and again each time that it comes back.
        failure_rate: Failures per hour: the worker's process dies, and starts again at once.
        preempt_rate: Preemptions per hour: the worker's machine is taken away; another one comes
            after ``replace_s``.
        replace_s: Seconds until a machine that was taken away is replaced.
        checkpoint_s: Seconds of work between two checkpoints. 0 loses nothing, ``inf`` loses all
            work of a trial.
        spread: Standard deviation of the logarithm of the workers' speeds (0.2: most are within
            20 % of the evaluator's seconds); 0: all workers are equally fast.
        seed: The seed of failures, preemptions and speeds.

    Raises:
        UserError: If ``workers`` is < 1, another value is negative, or one that must be finite is
            not.

    Example:
        >>> SimulatedCluster(workers=8, preempt_rate=0.5).replace_s
        300.0
    """

    workers: int = 1
    startup_s: float = 0.0
    failure_rate: float = 0.0
    preempt_rate: float = 0.0
    replace_s: float = 300.0
    checkpoint_s: float = 0.0
    spread: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"a cluster of {self.workers} workers", expected="1 or more")
        for name in ("startup_s", "failure_rate", "preempt_rate", "replace_s", "spread"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"cluster's {name}={getattr(self, name)}", expected="0 or more")
        if not self.checkpoint_s >= 0:
            raise UserError(
                f"cluster's checkpoint_s={self.checkpoint_s}", expected="0 or more, inf"
            )


@dataclass(frozen=True)
class WorkerUsage:
    """An account of the workers' time, in worker-seconds.

    ``starting``, ``useful``, ``lost``, ``down`` and ``idle`` add up to ``workers * seconds``.

    Attributes:
        workers: The number of workers.
        seconds: Seconds on the virtual clock.
        starting: Worker-seconds in which workers started.
        useful: Worker-seconds of work that counted.
        lost: Worker-seconds of work after a trial's last checkpoint, which it had to do again.
        down: Worker-seconds in which a machine was away.
        idle: Worker-seconds without work.
        failures: How many worker processes died.
        preemptions: How many machines were taken away.

    Example:
        >>> WorkerUsage(2, 10.0, 1.0, 15.0, 2.0, 0.0, 2.0, failures=1, preemptions=0).utilisation
        0.75
    """

    workers: int
    seconds: float
    starting: float
    useful: float
    lost: float
    down: float
    idle: float
    failures: int
    preemptions: int

    @property
    def total(self) -> float:
        """The time of all workers.

        Returns:
            Worker-seconds.
        """
        return self.workers * self.seconds

    @property
    def utilisation(self) -> float:
        """The share of the workers' time in which they did work that counted.

        Returns:
            A number from 0 to 1; 0 before any time has passed.
        """
        return max(self.useful, 0.0) / self.total if self.total else 0.0  # rounded below 0 at times


@dataclass(frozen=True)
class WorkerSpan:
    """A period in which a simulated worker did one thing.

    Attributes:
        worker: The number of the worker, from 0.
        kind: ``starting``, ``working`` or ``down``.
        begin: Seconds on the virtual clock.
        end: Seconds on the virtual clock.
        trial: The number of the trial that it worked on; None if it did not work.
    """

    worker: int
    kind: Kind
    begin: float
    end: float
    trial: int | None = None
