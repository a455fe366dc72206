"""Trials that train, as Ray Tune trials: persistent actors, fractional GPUs, retries.

Ray Tune places trials and restarts dead workers. It decides nothing: proposals, rungs and states
come from the :class:`~raynas.runners.work.Work`, which writes every result to our store at once.
Tune's own snapshots are not used; a run is resumed by replaying the store.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import Job, RaynasError
from raynas.runners import environment
from raynas.runners.base import Outcome, deliver, on_device, pick_device, steps
from raynas.runners.cluster import ClusterRunner
from raynas.runners.crew import Shared
from raynas.runners.deaths import cause, died, no_setup
from raynas.runners.work import Work

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

#: how often in a row a fit() that Ray ended is started again without a trial having ended
_FITS = 5


class TrialActor(tune.Trainable):
    """A worker. It keeps data and evaluator between trials; one ``step`` is one measurement."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], shared: Shared
    ) -> None:
        self._space, self._evaluator = shared.space, shared.evaluator
        self._evaluator.setup(self._space, ray.get(shared.view))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any]) -> None:
        job: Job = config["job"]
        arch = self._space.architecture(config["arch"])
        device = pick_device(config["gpus"])
        self._outcomes = steps(self._evaluator, arch, on_device(job, device))

    def _end(self) -> None:
        self._outcomes.close()

    def step(self) -> dict[str, Any]:
        # never "done": Tune would not show a last result to the scheduler
        return {"outcome": next(self._outcomes, Outcome())}

    def cleanup(self) -> None:
        self._end()


class _Hooks:
    """What Tune's callbacks share. Tune pickles them into snapshots that we never read.

    Errors in callbacks (a full disk) must end the run, not be logged and forgotten.
    ``only``: trials after which the fit ends; empty for all that the work has to give.
    """

    def __init__(self, work: Work, only: frozenset[int] = frozenset()) -> None:
        self.work, self.only = work, only

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
        self.work.error = self.work.error or error
        self.work.interrupt()


class WorkSearcher(Searcher):
    """Jobs of the work as Tune configurations."""

    def __init__(self, hooks: _Hooks, gpus: float) -> None:
        super().__init__()
        self._hooks, self._gpus = hooks, gpus
        self._numbers: dict[str, int] = {}

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        work = self._hooks.work
        if self._hooks.over:
            return str(Searcher.FINISHED)
        try:
            job = work.next()
        except Exception as error:
            self._hooks.failed(error)
            return str(Searcher.FINISHED)
        if job is None:
            # what runs may make room for more; only an end of the work is an end of the search
            return None if work.live and not work.interrupted else str(Searcher.FINISHED)
        self._numbers[trial_id] = job.trial
        return {"job": job, "arch": work.arch(job.trial).text, "gpus": self._gpus}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._numbers.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """The store keeps the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The store keeps the state."""


class WorkScheduler(FIFOScheduler):
    """Hands every outcome to the work and answers with its decision."""

    def __init__(self, hooks: _Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        try:
            goes_on = deliver(self._hooks.work, trial.config["job"].trial, result["outcome"])
        except Exception as error:
            self._hooks.failed(error)
            goes_on = False
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker died. Tune starts the trial again, if it was not once too often."""
        try:
            self._died(trial)
        except Exception as error:
            self._hooks.failed(error)

    def _died(self, trial: Any) -> None:
        work, job = self._hooks.work, trial.config["job"]
        if work.interrupted:
            return
        setup, reason = _cause(trial)
        if setup:
            raise no_setup(reason)
        if trial.should_recover():
            work.trials[job.trial].attempt = job.attempt + trial.num_failures
        else:
            work.fail(job.trial, died(trial.num_failures, reason))


def _cause(trial: Any) -> tuple[bool, str]:
    """Whether a dead worker died while it was set up, and why, in one line."""
    try:
        text = Path(trial.error_file).read_text()
    except (OSError, TypeError):  # Tune had no folder for it yet
        text = ""
    return cause(text.rpartition("Failure # ")[2])


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
    """

    name: ClassVar[str] = "tune"

    scratch: Path | None = None

    def run(self, work: Work) -> None:
        """See the base class. Raises: RaynasError when Ray itself does not work any more."""
        self.open()
        lost: Counter[int] = Counter()
        alone: frozenset[int] = frozenset()
        idle, ended = 0, -1
        while idle < _FITS + self.resources.retries:
            memory, reason = self._fit_once(work, alone)
            if work.error is not None:
                raise work.error
            if work.done or work.interrupted:
                return
            now = work.status().ended
            idle, ended = (idle + 1, ended) if now == ended else (0, now)
            if memory:
                self._charge(work, lost)
            # suspects of using too much memory are tried again one by one
            suspects = {*alone, *work.live} if memory else ()
            alone = frozenset(n for n in suspects if not work.trials[n].state.ended)
            work.requeue_live()
        raise RaynasError(
            f"Ray Tune ended {idle + 1} times without a result: {' '.join(reason.split())[:300]}; "
            "`raynas resume` goes on"
        )

    def _fit_once(self, work: Work, alone: frozenset[int]) -> tuple[bool, str]:
        """Whether Ray's memory monitor ended the fit (it ends all when it kills one), and why."""
        try:
            self._fit(work, alone)
        except RaynasError:
            raise
        except Exception as error:
            return _is_memory_kill(error), f"{type(error).__name__}: {error}"
        return False, "the search ended early"

    def _charge(self, work: Work, lost: Counter[int]) -> None:
        """A trial that was alone when memory ran out is the one that does not fit."""
        live = work.live
        lost.update(live)
        if len(live) == 1 and lost[live[0]] > self.resources.retries:
            work.fail(
                live[0],
                "out of memory: Ray's memory monitor killed its worker, though it ran alone",
                infeasible=True,
            )

    def _fit(self, work: Work, alone: frozenset[int]) -> None:
        hooks = _Hooks(work, only=alone)
        processes = work.payload.evaluator.processes
        scratch = self.scratch or Path(tempfile.mkdtemp(prefix="raynas-tune-"))
        trainable = tune.with_resources(
            tune.with_parameters(TrialActor, shared=self.share(work.payload)),
            tune.PlacementGroupFactory([self._bundle(processes)]),
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=WorkSearcher(hooks, self._gpus),
                scheduler=WorkScheduler(hooks),
                num_samples=-1,
                max_concurrent_trials=1 if alone else max(1, self._slots() // processes),
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=f"tune-{uuid.uuid4().hex[:8]}",
                storage_path=str(scratch),
                verbose=0,
                stop=_WorkStopper(hooks),
                failure_config=tune.FailureConfig(max_failures=self.resources.retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


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
