"""This module lets Ray Tune ask a search for trials, and reports to it what Tune's workers say.

Tune asks :class:`WorkSearcher` for configurations, and :class:`WorkScheduler` what to do with
results and dead workers. Both share :class:`TuneHooks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raynas.core import Job
from raynas.evaluators.abilities import memory_of
from raynas.runners.base import JobOutcome, Resources, deliver
from raynas.runners.failures import FailureTracker, cause, no_measurement, no_setup
from raynas.runners.placement import ResourceAllocator
from raynas.runners.ray import environment
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.autoscaling import AutoscalerRequest
from raynas.runners.ray.lost_nodes import LostMachines
from raynas.search.job_source import JobSource

environment.prepare()  # before Ray is imported

from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402


class TuneHooks:
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

    def __deepcopy__(self, memo: object) -> TuneHooks:
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

    def __init__(self, hooks: TuneHooks, slots: Callable[[], int]) -> None:
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
            return memory_of(payload.evaluator, arch, payload.space, payload.view)
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

    def __init__(self, hooks: TuneHooks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
            result: What :meth:`~raynas.runners.ray.tune_worker.TrialActor.step` returned.

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


class WorkStopper(tune.Stopper):
    """A stopper of Tune that ends the fit when the search is interrupted."""

    def __init__(self, hooks: TuneHooks) -> None:
        self._hooks = hooks

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: Tune stops no trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Return True when the search is over."""
        return self._hooks.over
