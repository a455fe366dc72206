"""This module trains trials as Ray Tune trials: persistent actors, fractional GPUs, retries.

Ray Tune places trials and restarts dead workers. It decides nothing: proposals, rungs and states
come from the :class:`~raynas.search.job_source.JobSource`, which stores every result at once.
Tune's own snapshots are not used; a run is resumed by replaying the store.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import RaynasError
from raynas.runners.placement import (
    MemoryModel,
    ResourceAllocator,
    ResourceRequest,
    largest_and_all,
)
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.autoscaling import AutoscalerRequest
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.devices import look_at_devices
from raynas.runners.ray.tune_callbacks import SilentReporter, TrialRecords
from raynas.runners.ray.tune_search import TuneHooks, WorkScheduler, WorkSearcher, WorkStopper
from raynas.runners.ray.tune_worker import TrialActor
from raynas.search.job_source import JobSource

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402

# it would report trials that did not complete, though the search tries them again
logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)

#: how often in a row a fit() that Ray ended without the end of a trial is started again
_FITS = 5
#: trials that Tune may hold waiting for workers; the searcher's own limit is lower
_PENDING = 10_000


@dataclass
class TuneRunner(ClusterRunner):
    """A runner that trains by Ray Tune, on this machine or on a cluster.

    Attributes:
        scratch: An absolute folder for Tune's own files; it is removed after each part. None takes
            a temporary one.
        learned: Memory models of earlier stages, for ``resources.gpus="fit"``.
    """

    name: ClassVar[str] = "tune"

    scratch: Path | None = None
    learned: MemoryModel = field(default_factory=MemoryModel)

    def run(self, work: JobSource) -> None:
        """Carry out jobs by Ray Tune; a fit that Ray ends too early is started again.

        Args:
            work: The source of the jobs.

        Raises:
            UserError: If Ray cannot be reached, or workers cannot be set up or cannot write.
            RaynasError: If fits end again and again without a result: Ray itself does not work any
                more.
        """
        self.open()
        hooks = TuneHooks(work, self._placer(), self.resources, self.losses)
        idle, ended = 0, -1
        while idle < _FITS + self.resources.retries:
            memory, reason = self._fit_once(hooks)
            if work.error is not None:
                raise work.error
            if work.done or work.interrupted:
                return
            now = work.status().ended
            idle, ended = (idle + 1, ended) if now == ended else (0, now)
            # trials that may use too much memory are tried again one by one
            suspects = {*hooks.only, *work.live} if memory else ()
            if memory:
                self._charge(hooks)
            hooks.only = frozenset(n for n in suspects if not work.trials[n].state.ended)
            work.requeue_live()
        raise RaynasError(
            f"Ray Tune ended {idle + 1} times without a result: {' '.join(reason.split())[:300]}; "
            "`raynas resume` goes on"
        )

    def _placer(self) -> ResourceAllocator:
        self._check_gpus()
        devices = look_at_devices() if self._gpus and self.resources.gpus == "fit" else ()
        return ResourceAllocator(
            ResourceRequest(self._gpus, self._memory),
            largest_and_all([node["Resources"] for node in machines.alive()]),
            devices,
            self.resources.memory == "fit" and not self._gpus,
            self.learned,
        )

    def _fit_once(self, hooks: TuneHooks) -> tuple[bool, str]:
        """Run one fit of Tune.

        Returns:
            True if Ray's memory monitor ended it (it ends all when it kills one), and the reason.
        """
        try:
            self._fit(hooks)
        except RaynasError:
            raise
        except Exception as error:
            return _is_memory_kill(error), f"{type(error).__name__}: {error}"
        return False, "the search ended early"

    def _charge(self, hooks: TuneHooks) -> None:
        """End or repeat the trial that was alone when memory ran out, since it does not fit.

        If it was among others before, this was its second try, with all memory of the machine.
        """
        work = hooks.work
        if len(work.live) == 1:
            (job,) = work.jobs.values()
            room = f"{ResourceRequest().in_words('cpu')} to itself"
            reason = "Ray's memory monitor killed its worker"
            work.no_memory(job, reason, room, last=job.trial in hooks.only)

    def _fit(self, hooks: TuneHooks) -> None:
        evaluator = hooks.work.payload.evaluator
        scratch = self.scratch or Path(tempfile.mkdtemp(prefix="raynas-tune-"))
        # private: Tune writes down jobs, which hold the URI of the run's storage
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

        bundle = self._bundle(evaluator.processes)
        hooks.demand = AutoscalerRequest(bundle)

        def most() -> int:
            if hooks.work.live and not hooks.heard:
                hooks.work.waits_for = machines.awaited(gpus=self._gpus > 0)
            if hooks.only:
                return 1
            slots = max(1, self._slots(hooks.placer.least_gpu) // evaluator.processes)
            if self._grows():
                full = len(hooks.heard) >= slots  # waiting trials get their room first
                hooks.demand.ask(hooks.work.breadth - slots if full else 0)
            return slots

        place: Any = partial(_place, self.resources.cpus)
        if evaluator.processes > 1:  # several processes train one network
            place = tune.PlacementGroupFactory([bundle])
        trainable = tune.with_resources(
            tune.with_parameters(TrialActor, shared=self.share(hooks.work.payload)),
            place,
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=WorkSearcher(hooks, machines.CachedQuery(most)),
                scheduler=WorkScheduler(hooks),
                num_samples=-1,
                max_concurrent_trials=_PENDING,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=f"tune-{uuid.uuid4().hex[:8]}",
                storage_path=str(scratch),
                verbose=0,
                stop=WorkStopper(hooks),
                callbacks=[TrialRecords(hooks), SilentReporter()],
                failure_config=tune.FailureConfig(max_failures=0),  # the search tries again
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        finally:
            hooks.demand.withdraw()
            hooks.work.waits_for = ""
            shutil.rmtree(scratch, ignore_errors=True)


def _place(cpus: float, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Return what Tune is to reserve for a trial."""
    return tune.PlacementGroupFactory([config["share"].bundle(cpus)])


def _is_memory_kill(error: BaseException | None) -> bool:
    """Return True for a kill by Ray's memory monitor, which Tune does not expect as an error."""
    while error is not None:
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trial_name(trial: Any) -> str:
    """Return a short name: Tune's own names hold all parameters and overflow path lengths."""
    return f"trial-{trial.trial_id}"
