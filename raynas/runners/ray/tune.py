"""Trials that train, as Ray Tune trials: persistent actors, fractional GPUs, retries.

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
from raynas.runners.base import Outcome, Resources, deliver, on_device, steps
from raynas.runners.failures import Deaths, cause, no_measurement, no_setup
from raynas.runners.gpus import worker_device
from raynas.runners.placement import Learned, Placer, Share, largest_and_all
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.actor_pool import Shared, ready_evaluator
from raynas.runners.ray.autoscaling import Demand
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.devices import look_at_devices
from raynas.runners.ray.lost_nodes import LostMachines
from raynas.runners.ray.memory import Peak, watched
from raynas.search.job_source import JobSource

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.progress_reporter import TrialProgressCallback  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

# it would tell of trials that did not complete, though the work tries them again
logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)

#: how often in a row a fit() that Ray ended is started again without a trial having ended
_FITS = 5
#: trials that Tune may hold waiting for workers; the searcher's own limit is lower
_PENDING = 10_000
#: where Tune's controller keeps trials that ended
_KEPT_BY_TUNE = (
    "_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache", "_resetting_trials",
)  # fmt: skip


class TrialActor(tune.Trainable):
    """A worker. It keeps data and evaluator between trials; one ``step`` is one measurement."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], shared: Shared
    ) -> None:
        self._space, self._evaluator = shared.space, ready_evaluator(shared)
        self._node = ray.get_runtime_context().get_node_id()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        job: Job = config["job"]
        arch = self._space.architecture(config["arch"])
        share: Share = config["share"]
        device = worker_device(share.gpus)
        self._peak, self._patience = Peak(device, share), config["patience"]
        self._outcomes = steps(self._evaluator, arch, on_device(job, device), share)

    def _end(self) -> None:
        self._outcomes.close()

    def step(self) -> dict[str, Any]:
        # never "done": Tune would not show a last result to the scheduler
        with watched(self._patience):
            outcome = next(self._outcomes, Outcome())
        return {"outcome": replace(outcome, peak=self._peak.bytes()), "node": self._node}

    def cleanup(self) -> None:
        self._end()


class _Hooks:
    """What Tune's callbacks share. Tune pickles them into snapshots that we never read.

    Errors in callbacks (a full disk) must end the run, not be logged and forgotten.
    ``only``: trials after which the fit ends; empty for all that the work has to give.
    ``heard``: when a worker last had something to say, or began. ``rested``: trials that Tune is
    done with, and the controller that still keeps them. ``leaving``: see ``machines``.
    """

    def __init__(
        self,
        work: JobSource,
        placer: Placer,
        resources: Resources,
        losses: LostMachines | None = None,
    ) -> None:
        self.work, self.placer, self.resources = work, placer, resources
        self.losses = losses or LostMachines()
        self.only: frozenset[int] = frozenset()
        self.deaths: dict[int, Deaths] = {}
        self.heard: dict[int, float] = {}
        self.rested: list[tuple[Any, Any]] = []
        self.demand = Demand({})
        self.leaving = machines.Recent(machines.leaving)

    @property
    def over(self) -> bool:
        """Nothing more is to be started."""
        tried = self.only and all(self.work.trials[n].state.ended for n in self.only)
        return self.work.interrupted or bool(tried)

    def __deepcopy__(self, memo: object) -> _Hooks:
        return self

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def failed(self, error: BaseException) -> None:
        self.work.interrupt(error)


class WorkSearcher(Searcher):
    """Jobs of the work as Tune configurations, no more at once than there are ``slots``."""

    def __init__(self, hooks: _Hooks, slots: Callable[[], int]) -> None:
        super().__init__()
        self._hooks, self._slots = hooks, slots

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """True: the limit is kept here, since Tune's would stay as it was when the fit began."""
        return True

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
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
            # what runs may make room for more; only an end of the work is an end of the search
            return None if work.live and not work.interrupted else str(Searcher.FINISHED)
        return {
            "job": job,
            "arch": work.arch(job.trial).text,
            "share": self._hooks.placer.place(job.trial, self._bytes(job), job.more_memory),
            "patience": self._hooks.resources.patience,
        }

    def _bytes(self, job: Job) -> int | None:
        """That the trial is predicted to need, where somebody asks."""
        if not self._hooks.placer.asks:
            return None
        payload, arch = self._hooks.work.payload, self._hooks.work.arch(job.trial)
        try:
            return payload.evaluator.memory(arch, payload.space, payload.view)
        except Exception:  # the trial itself will tell what is wrong with its network
            return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The work was told by the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """The store keeps the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The store keeps the state."""


class WorkScheduler(FIFOScheduler):
    """Hands every outcome to the work and answers with its decision."""

    def __init__(self, hooks: _Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The newest that waits: it takes the worker that has just become free.

        The older ones have workers of their own on the way. By Tune's rule the oldest would take
        the free one and its own be ended, so where trials are shorter than a worker's start, no
        worker beyond the first would ever begin.
        """
        waiting = (t for t in reversed(tune_controller.get_trials()) if t.status == t.PENDING)
        return next(waiting, None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        job: Job = trial.config["job"]
        self._hooks.losses.heard(job.trial, result["node"])
        try:
            goes_on = self._heard(job, result["outcome"])
            if goes_on and result["node"] in self._hooks.leaving():
                self._hooks.work.again(job)  # elsewhere, from the checkpoint that it just left
                goes_on = False
        except Exception as error:
            self._hooks.failed(error)
            goes_on = False
        if not goes_on:
            self._hooks.losses.left(job.trial)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _heard(self, job: Job, outcome: Outcome) -> bool:
        hooks, number = self._hooks, job.trial
        before = hooks.work.trials[number].step
        hooks.heard[number] = time.monotonic()
        hooks.placer.saw(number, outcome.peak, on_gpu=outcome.device != "cpu")
        measured = outcome.measurement
        if number in hooks.deaths and measured is not None and measured.step > before:
            hooks.deaths[number].progress()
        return deliver(hooks.work, job, outcome)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._hooks.rested.append((tune_controller, trial))
        # Tune looks at this next, to keep the trial's worker for another, or not
        tune_controller._reuse_actors = result.get("node") not in self._hooks.leaving()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker died. The trial is started again, if it was not once too often."""
        self._hooks.rested.append((tune_controller, trial))
        try:
            self._died(trial, begun=trial not in tune_controller._resetting_trials)
        except Exception as error:
            self._hooks.failed(error)

    def _died(self, trial: Any, *, begun: bool) -> None:
        """``begun``: whether the worker had the trial. One that was kept from an earlier trial may
        be on a machine that is gone, of which Ray does not know yet."""
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
        deaths = hooks.deaths.setdefault(number, Deaths())
        deaths.count(text, machines.known)
        if verdict := deaths.verdict(hooks.resources.retries, reason, machines.answering):
            hooks.work.fail(job, verdict)
            hooks.losses.left(number)
        else:
            hooks.work.again(job)


def _last_words(trial: Any) -> str:
    """What Ray says of a dead worker."""
    try:
        text = Path(trial.error_file).read_text()
    except (OSError, TypeError):  # Tune had no folder for it yet
        text = ""
    return text.rpartition("Failure # ")[2]


class _Books(tune.Callback):
    """Notes when a worker begins with a trial, and strikes out those that ended.

    Tune keeps all trials of a fit, with configurations, last results and statistics, visits them
    in every step, and writes them down at the end: 45 KB a trial, and time that grows with them.
    The work has all that is needed.
    """

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._hooks.heard[trial.config["job"].trial] = time.monotonic()
        self._hooks.work.waits_for = ""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        rested = self._hooks.rested
        while rested and len(trials) > 1:  # without any, Tune would look for them in its files
            controller, trial = rested.pop()
            self._hooks.heard.pop(trial.config["job"].trial, None)
            for name in _KEPT_BY_TUNE:
                kept = getattr(controller, name)
                if trial in kept:
                    kept.remove(trial)


class _Silence(TrialProgressCallback):
    """In the place of Tune's own, which would keep every trial to print its last result once."""

    def on_trial_result(self, *what: Any, **info: Any) -> None:
        """Nothing is printed."""

    def on_trial_error(self, *what: Any, **info: Any) -> None:
        """Nothing is printed."""

    def on_trial_complete(self, *what: Any, **info: Any) -> None:
        """Nothing is printed."""


class _WorkStopper(tune.Stopper):
    """Ends the fit when the work is interrupted."""

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._hooks.over


@dataclass
class TuneRunner(ClusterRunner):
    """Ray Tune on this machine or on a cluster.

    ``scratch``: an absolute folder for Tune's own files; it is removed after each part.
    ``learned``: what is known of the sizes of trials, for ``resources.gpus="fit"``.
    """

    name: ClassVar[str] = "tune"

    scratch: Path | None = None
    learned: Learned = field(default_factory=Learned)

    def run(self, work: JobSource) -> None:
        """See the base class. Raises: RaynasError when Ray itself does not work any more."""
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
            # suspects of using too much memory are tried again one by one
            suspects = {*hooks.only, *work.live} if memory else ()
            if memory:
                self._charge(hooks)
            hooks.only = frozenset(n for n in suspects if not work.trials[n].state.ended)
            work.requeue_live()
        raise RaynasError(
            f"Ray Tune ended {idle + 1} times without a result: {' '.join(reason.split())[:300]}; "
            "`raynas resume` goes on"
        )

    def _placer(self) -> Placer:
        self._check_gpus()
        devices = look_at_devices() if self._gpus and self.resources.gpus == "fit" else ()
        return Placer(
            Share(self._gpus, self._memory),
            largest_and_all([node["Resources"] for node in machines.alive()]),
            devices,
            self.resources.memory == "fit" and not self._gpus,
            self.learned,
        )

    def _fit_once(self, hooks: _Hooks) -> tuple[bool, str]:
        """Whether Ray's memory monitor ended the fit (it ends all when it kills one), and why."""
        try:
            self._fit(hooks)
        except RaynasError:
            raise
        except Exception as error:
            return _is_memory_kill(error), f"{type(error).__name__}: {error}"
        return False, "the search ended early"

    def _charge(self, hooks: _Hooks) -> None:
        """A trial that was alone when memory ran out is the one that does not fit. If it was among
        others before, this was its second try, with all that there is."""
        work = hooks.work
        if len(work.live) == 1:
            (job,) = work.jobs.values()
            room = f"{Share().in_words('cpu')} to itself"
            reason = "Ray's memory monitor killed its worker"
            work.no_memory(job, reason, room, last=job.trial in hooks.only)

    def _fit(self, hooks: _Hooks) -> None:
        evaluator = hooks.work.payload.evaluator
        scratch = self.scratch or Path(tempfile.mkdtemp(prefix="raynas-tune-"))
        # Tune writes jobs down, and with them the URI of the run's storage
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

        bundle = self._bundle(evaluator.processes)
        hooks.demand = Demand(bundle)

        def most() -> int:
            if hooks.work.live and not hooks.heard:
                hooks.work.waits_for = machines.awaited(gpus=self._gpus > 0)
            if hooks.only:
                return 1
            slots = max(1, self._slots(hooks.placer.least_gpu) // evaluator.processes)
            if self._grows():
                full = len(hooks.heard) >= slots  # what waits shall have its room first
                hooks.demand.ask(hooks.work.breadth - slots if full else 0)
            return slots

        place: Any = partial(_place, self.resources.cpus)
        if evaluator.processes > 1:  # they train one network together
            place = tune.PlacementGroupFactory([bundle])
        trainable = tune.with_resources(
            tune.with_parameters(TrialActor, shared=self.share(hooks.work.payload)),
            place,
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=WorkSearcher(hooks, machines.Recent(most)),
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
                failure_config=tune.FailureConfig(max_failures=0),  # the work tries again
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
    """What Tune is to reserve for a trial."""
    return tune.PlacementGroupFactory([config["share"].bundle(cpus)])


def _is_memory_kill(error: BaseException | None) -> bool:
    """Ray's memory monitor reports a kill as an error that Tune does not expect."""
    while error is not None:
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trial_name(trial: Any) -> str:
    """Short: Tune's own names hold all parameters and overflow path lengths."""
    return f"trial-{trial.trial_id}"
