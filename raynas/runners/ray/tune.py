"""This module trains trials as Ray Tune trials: persistent actors, fractional GPUs, retries.

Ray Tune places trials and restarts dead workers. It decides nothing: proposals, rungs and states
come from the :class:`~raynas.search.job_source.JobSource`, which stores every result at once.
Tune's own snapshots are not used; a run is resumed by replaying the store.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import Job, RaynasError
from raynas.runners.base import JobOutcome, Resources, deliver, on_device, steps
from raynas.runners.failures import FailureTracker, cause, no_measurement, no_setup
from raynas.runners.gpus import worker_device
from raynas.runners.placement import (
    MemoryModel,
    ResourceAllocator,
    ResourceRequest,
    largest_and_all,
)
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.actor_worker import ready_evaluator
from raynas.runners.ray.autoscaling import AutoscalerRequest
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.devices import look_at_devices
from raynas.runners.ray.lost_nodes import LostMachines
from raynas.runners.ray.memory import PeakMemory, watched
from raynas.runners.ray.shared_context import SharedContext
from raynas.search.job_source import JobSource

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.progress_reporter import TrialProgressCallback  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

# it would report trials that did not complete, though the search tries them again
logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)

#: how often in a row a fit() that Ray ended without the end of a trial is started again
_FITS = 5
#: trials that Tune may hold waiting for workers; the searcher's own limit is lower
_PENDING = 10_000
#: where Tune's controller keeps trials that ended
_KEPT_BY_TUNE = (
    "_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache", "_resetting_trials",
)  # fmt: skip


class TrialActor(tune.Trainable):
    """A worker that trains one trial after the other.

    It keeps data and evaluator between trials; one ``step`` is one measurement.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], shared: SharedContext
    ) -> None:
        """Set up the evaluator, and begin the first trial.

        Args:
            config: The configuration of the trial, as :class:`WorkSearcher` suggests it.
            shared: The space, the evaluator and the data view.
        """
        self._space, self._evaluator = shared.space, ready_evaluator(shared)
        self._node = ray.get_runtime_context().get_node_id()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the last trial and begin another one.

        Args:
            new_config: The configuration of the next trial.

        Returns:
            True: the actor can be used again.
        """
        self._end()
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        job: Job = config["job"]
        arch = self._space.architecture(config["arch"])
        share: ResourceRequest = config["share"]
        device = worker_device(share.gpus)
        self._peak, self._patience = PeakMemory(device, share), config["patience"]
        self._outcomes = steps(self._evaluator, arch, on_device(job, device), share)

    def _end(self) -> None:
        self._outcomes.close()

    def step(self) -> dict[str, Any]:
        """Evaluate until the next measurement.

        Returns:
            The outcome, with the peak of memory, and Ray's id of the machine.
        """
        # "done" is never set: Tune would not show such a result to the scheduler
        with watched(self._patience):
            outcome = next(self._outcomes, JobOutcome())
        return {"outcome": replace(outcome, peak=self._peak.bytes()), "node": self._node}

    def cleanup(self) -> None:
        """End the evaluation."""
        self._end()


class _Hooks:
    """The state that Tune's callbacks share.

    Tune pickles it into snapshots that are never read. Errors in callbacks (a full disk) must end
    the run, not be logged and forgotten.

    ``only``: trials after which the fit ends; empty for all that the search has to give. ``heard``:
    when each worker began or sent its last message. ``rested``: trials that Tune has ended, each
    with the controller that still keeps it. ``leaving``: machines that will leave; see
    :func:`~raynas.runners.ray.nodes.leaving`.
    """

    def __init__(
        self,
        work: JobSource,
        placer: ResourceAllocator,
        resources: Resources,
        losses: LostMachines | None = None,
    ) -> None:
        self.work, self.placer, self.resources = work, placer, resources
        self.losses = losses or LostMachines()
        self.only: frozenset[int] = frozenset()
        self.deaths: dict[int, FailureTracker] = {}
        self.heard: dict[int, float] = {}
        self.rested: list[tuple[Any, Any]] = []
        self.demand = AutoscalerRequest({})
        self.leaving = machines.CachedQuery(machines.leaving)

    @property
    def over(self) -> bool:
        """True if nothing more is to be started."""
        tried = self.only and all(self.work.trials[n].state.ended for n in self.only)
        return self.work.interrupted or bool(tried)

    def __deepcopy__(self, memo: object) -> _Hooks:
        return self

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def failed(self, error: BaseException) -> None:
        """End the search with an error."""
        self.work.interrupt(error)


class WorkSearcher(Searcher):
    """A search algorithm of Tune that suggests the jobs of a search.

    Args:
        hooks: The state that Tune's callbacks share.
        slots: Returns the most trials at once.
    """

    def __init__(self, hooks: _Hooks, slots: Callable[[], int]) -> None:
        super().__init__()
        self._hooks, self._slots = hooks, slots

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Return True: the limit is kept here, since Tune's would not change during a fit.

        Args:
            max_concurrent: Tune's limit, which is ignored.
        """
        return True

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial.

        Args:
            trial_id: Tune's id of the trial.

        Returns:
            The job, the text of the architecture, the share of the devices, and the patience in
            seconds; None if there is no job or no room now; ``Searcher.FINISHED`` at the end of the
            search.
        """
        work = self._hooks.work
        if self._hooks.over:
            return str(Searcher.FINISHED)
        if len(work.live) >= self._slots() or not self._hooks.placer.has_room(work.live):
            return None
        try:
            job = work.next()
        except Exception as error:
            self._hooks.failed(error)
            return str(Searcher.FINISHED)
        if job is None:
            # running trials may lead to more jobs; only the end of the search ends the suggestions
            return None if work.live and not work.interrupted else str(Searcher.FINISHED)
        return {
            "job": job,
            "arch": work.arch(job.trial).text,
            "share": self._hooks.placer.place(job.trial, self._bytes(job), job.more_memory),
            "patience": self._hooks.resources.patience,
        }

    def _bytes(self, job: Job) -> int | None:
        """Return the bytes that the trial is predicted to need; None if nobody asks for them."""
        if not self._hooks.placer.asks:
            return None
        payload, arch = self._hooks.work.payload, self._hooks.work.arch(job.trial)
        try:
            return payload.evaluator.memory(arch, payload.space, payload.view)
        except Exception:  # the trial itself will report the error of its network
            return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler has reported the trial's end to the search.

        Args:
            trial_id: Tune's id of the trial.
            result: Its last result.
            error: True if it failed.
        """

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the store keeps the state.

        Args:
            checkpoint_path: Where Tune would keep it.
        """

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the store keeps the state.

        Args:
            checkpoint_path: Where Tune would have kept it.
        """


class WorkScheduler(FIFOScheduler):
    """A scheduler of Tune that reports every outcome to the search and returns its decision.

    Args:
        hooks: The state that Tune's callbacks share.
    """

    def __init__(self, hooks: _Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose the newest trial that waits: it takes the worker that has just become free.

        The older ones have workers of their own on the way. By Tune's rule the oldest would take
        the free worker and its own be ended, so if trials are shorter than the start of a worker,
        no worker beyond the first would ever begin.

        Args:
            tune_controller: Tune's controller.

        Returns:
            The trial; None if none waits.
        """
        waiting = (t for t in reversed(tune_controller.get_trials()) if t.status == t.PENDING)
        return next(waiting, None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Report an outcome to the search.

        A trial on a machine that will leave is started again elsewhere, from the checkpoint that it
        has just left.

        Args:
            tune_controller: Tune's controller.
            trial: Tune's trial.
            result: What :meth:`TrialActor.step` returned.

        Returns:
            ``CONTINUE`` or ``STOP``.
        """
        job: Job = trial.config["job"]
        self._hooks.losses.heard(job.trial, result["node"])
        try:
            goes_on = self._heard(job, result["outcome"])
            if goes_on and result["node"] in self._hooks.leaving():
                self._hooks.work.again(
                    job
                )  # elsewhere, from the checkpoint that it has just written
                goes_on = False
        except Exception as error:
            self._hooks.failed(error)
            goes_on = False
        if not goes_on:
            self._hooks.losses.left(job.trial)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _heard(self, job: Job, outcome: JobOutcome) -> bool:
        hooks, number = self._hooks, job.trial
        before = hooks.work.trials[number].step
        hooks.heard[number] = time.monotonic()
        hooks.placer.saw(number, outcome.peak, on_gpu=outcome.device != "cpu")
        measured = outcome.measurement
        if number in hooks.deaths and measured is not None and measured.step > before:
            hooks.deaths[number].progress()
        return deliver(hooks.work, job, outcome)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Keep the worker for another trial, unless its machine will leave.

        Args:
            tune_controller: Tune's controller.
            trial: Tune's trial.
            result: Its last result.
        """
        self._hooks.rested.append((tune_controller, trial))
        # Tune reads this next, to decide if the trial's worker is kept for another trial
        tune_controller._reuse_actors = result.get("node") not in self._hooks.leaving()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Start the trial of a worker that died again, unless it died too often.

        Args:
            tune_controller: Tune's controller.
            trial: Tune's trial.
        """
        self._hooks.rested.append((tune_controller, trial))
        try:
            self._died(trial, begun=trial not in tune_controller._resetting_trials)
        except Exception as error:
            self._hooks.failed(error)

    def _died(self, trial: Any, *, begun: bool) -> None:
        """Start the trial again, or end it.

        Args:
            trial: Tune's trial.
            begun: True if the worker had the trial. One that was kept from an earlier trial may be
                on a machine that is gone, which Ray does not know yet.
        """
        hooks, job = self._hooks, trial.config["job"]
        number = job.trial
        if hooks.work.interrupted:
            return
        if not begun:
            hooks.work.again(job)
            return
        text = _last_words(trial)
        hooks.losses.died(number, text)
        setup, reason = cause(text)
        if setup:
            raise no_setup(reason)
        patience, heard = hooks.resources.patience, hooks.heard.get(number)
        if patience and heard is not None and time.monotonic() - heard >= patience:
            reason = no_measurement(patience)
        deaths = hooks.deaths.setdefault(number, FailureTracker())
        deaths.count(text, machines.known)
        if verdict := deaths.verdict(hooks.resources.retries, reason, machines.answering):
            hooks.work.fail(job, verdict)
            hooks.losses.left(number)
        else:
            hooks.work.again(job)


def _last_words(trial: Any) -> str:
    """Return what Ray says of a dead worker."""
    try:
        text = Path(trial.error_file).read_text()
    except (OSError, TypeError):  # Tune had no folder for it yet
        text = ""
    return text.rpartition("Failure # ")[2]


class _Books(tune.Callback):
    """A callback that notes when workers begin, and removes trials that ended from Tune.

    Tune keeps all trials of a fit, with configurations, last results and statistics, visits them
    in every step, and writes them down at the end: 45 KB for each trial, and time that grows with
    their number. The search has all that is needed.
    """

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._hooks.heard[trial.config["job"].trial] = time.monotonic()
        self._hooks.work.waits_for = ""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        rested = self._hooks.rested
        while rested and len(trials) > 1:  # without any trial Tune would look for them in its files
            controller, trial = rested.pop()
            self._hooks.heard.pop(trial.config["job"].trial, None)
            for name in _KEPT_BY_TUNE:
                kept = getattr(controller, name)
                if trial in kept:
                    kept.remove(trial)


class _Silence(TrialProgressCallback):
    """A callback that prints nothing, in the place of Tune's own.

    Tune's own would keep every trial to print its last result once.
    """

    def on_trial_result(self, *what: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_error(self, *what: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, *what: Any, **info: Any) -> None:
        """Print nothing."""


class _WorkStopper(tune.Stopper):
    """A stopper of Tune that ends the fit when the search is interrupted."""

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._hooks.over


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
        hooks = _Hooks(work, self._placer(), self.resources, self.losses)
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

    def _fit_once(self, hooks: _Hooks) -> tuple[bool, str]:
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

    def _charge(self, hooks: _Hooks) -> None:
        """End or repeat the trial that was alone when memory ran out, since it does not fit.

        If it was among others before, this was its second try, with all memory of the machine.
        """
        work = hooks.work
        if len(work.live) == 1:
            (job,) = work.jobs.values()
            room = f"{ResourceRequest().in_words('cpu')} to itself"
            reason = "Ray's memory monitor killed its worker"
            work.no_memory(job, reason, room, last=job.trial in hooks.only)

    def _fit(self, hooks: _Hooks) -> None:
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
                stop=_WorkStopper(hooks),
                callbacks=[_Books(hooks), _Silence()],
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
