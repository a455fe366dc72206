"""Trials that train, as Ray Tune trials: persistent actors, fractional GPUs, retries.

Ray Tune places trials and restarts dead workers. It decides nothing: proposals, rungs and states
come from the :class:`~raynas.runners.work.Work`, which writes every result to our store at once.
Tune's own snapshots are not used; a run is resumed by replaying the store.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.core import Job, RaynasError, UserError
from raynas.core.describe import fresh
from raynas.data.base import View
from raynas.evaluators.base import Evaluator
from raynas.runners import environment
from raynas.runners.base import (
    Outcome,
    Resources,
    Runner,
    deliver,
    on_device,
    pick_device,
    steps,
)
from raynas.runners.work import Payload, Work
from raynas.spaces.base import SearchSpace

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

#: how often a whole fit() that Ray ended (its memory monitor does so) is started again
_FITS = 20


@dataclass(frozen=True)
class _Shared:
    """A payload on its way to workers; the images stay in the object store, one copy a node."""

    space: SearchSpace
    evaluator: Evaluator
    view: Any


class TrialActor(tune.Trainable):
    """A worker. It keeps data and evaluator between trials; one ``step`` is one measurement."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], shared: _Shared
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
        self._outcomes.close()  # type: ignore[attr-defined]

    def step(self) -> dict[str, Any]:
        # never "done": Tune would not show a last result to the scheduler
        return {"outcome": next(self._outcomes, Outcome())}

    def cleanup(self) -> None:
        self._end()


class _Hooks:
    """What Tune's callbacks share. Tune pickles them into snapshots that we never read.

    Errors in callbacks (a full disk) must end the run, not be logged and forgotten.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

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
        number = self._numbers.pop(trial_id, None)
        if error and number is not None and not self._hooks.work.interrupted:
            try:
                self._hooks.work.fail(number, "its worker died again and again")
            except Exception as failure:
                self._hooks.failed(failure)

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
        work, number = self._hooks.work, trial.config["job"].trial
        try:
            work.trials[number].attempt = trial.config["job"].attempt + trial.num_failures
            goes_on = deliver(work, number, result["outcome"])
        except Exception as error:
            self._hooks.failed(error)
            goes_on = False
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _WorkStopper(tune.Stopper):
    """Ends the fit when the work is interrupted."""

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._hooks.work.interrupted


@dataclass
class TuneRunner(Runner):
    """Ray Tune on this machine, or on the cluster at ``address`` (``auto``, ``ray://...``).

    ``scratch``: an absolute folder for Tune's own files, which are removed after each part.
    ``modules``: Python modules whose code workers cannot import (the experiment's own file).
    """

    name: ClassVar[str] = "tune"

    resources: Resources = field(default_factory=Resources)
    address: str | None = None
    scratch: Path | None = None
    modules: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        self._session: Path | None = None
        self._gpus = 0.0
        self._shared_view: tuple[View, Any] | None = None

    def run(self, work: Work) -> None:
        self.open()
        for _ in range(_FITS):
            try:
                self._fit(work)
            except (KeyboardInterrupt, RaynasError):
                raise
            except Exception as error:
                self._lost(work, f"{type(error).__name__}: {error}")
            if work.error is not None:
                raise work.error
            if work.done or work.interrupted:
                return
            self._lost(work, "Ray ended the search")
        raise RaynasError(
            f"Ray Tune ended {_FITS} times without finishing; `raynas resume` goes on"
        )

    def _lost(self, work: Work, reason: str) -> None:
        """Ray gave up (its memory monitor ends a whole fit): start the live trials again."""
        logging.getLogger(__name__).warning("restarting Ray Tune: %s", reason[:300])
        for number in work.live:
            if work.trials[number].attempt >= self.resources.retries:
                work.fail(number, f"out of memory or lost: {reason}", infeasible=True)
        work.requeue_live()

    def _fit(self, work: Work) -> None:
        hooks = _Hooks(work)
        scratch = self.scratch or Path(tempfile.mkdtemp(prefix="raynas-tune-"))
        name = f"tune-{uuid.uuid4().hex[:8]}"
        trainable = tune.with_resources(
            tune.with_parameters(TrialActor, shared=self._share(work.payload)),
            tune.PlacementGroupFactory([{"CPU": self.resources.cpus, "GPU": self._gpus}]),
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=WorkSearcher(hooks, self._gpus),
                scheduler=WorkScheduler(hooks),
                num_samples=-1,
                max_concurrent_trials=self._slots() + 1,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=name,
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
            shutil.rmtree(scratch / name, ignore_errors=True)

    def _share(self, payload: Payload) -> _Shared:
        """The evaluator as new (one that was set up here holds the images, too)."""
        if self._shared_view is None or self._shared_view[0] is not payload.view:
            self._shared_view = payload.view, ray.put(payload.view)
        return _Shared(payload.space, fresh(payload.evaluator), self._shared_view[1])

    def open(self) -> None:
        if ray.is_initialized():
            self._take_resources()
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address is None:
                ray.init(address="local", include_dashboard=False, **quiet)
                node = ray._private.worker._global_node
                self._session = Path(node.get_session_dir_path()) if node else None
            else:
                environment.prepare_to_join()
                ray.init(address=self.address, **quiet)
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster answers at {self.address!r}",
                allowed="'auto' on a machine of the cluster, host:port, or ray://host:10001",
                cure="start one with `ray start --head` or `ray up cluster.yaml`",
            ) from error
        for module in self.modules:
            ray.cloudpickle.register_pickle_by_value(module)
        self._take_resources()

    def _take_resources(self) -> None:
        have = ray.cluster_resources()
        wanted = self.resources.gpus
        self._gpus = float(have.get("GPU", 0.0) >= 1.0) if wanted is None else wanted
        if self.resources.cpus > have.get("CPU", 0.0) and self.address is None:
            raise UserError(
                f"resources.cpus={self.resources.cpus:g} on a machine with {have.get('CPU', 0):g}",
                allowed=f"up to {have.get('CPU', 0):g}",
                cure="--set resources.cpus=1",
            )
        if self._gpus > have.get("GPU", 0.0) and self.address is None:
            raise UserError(
                f"resources.gpus={self._gpus:g}, but Ray sees {have.get('GPU', 0):g} GPUs here",
                cure="--set resources.gpus=0",
            )

    def _slots(self) -> int:
        """How many trials run at once: as many as the machines hold, or as many as allowed."""
        if self.resources.concurrent is not None:
            return self.resources.concurrent
        have = ray.cluster_resources()
        fits = [have.get("CPU", 1.0) / self.resources.cpus]
        if self._gpus:
            fits.append(have.get("GPU", 0.0) / self._gpus)
        return max(1, int(min(fits)))

    def close(self) -> None:
        if ray.is_initialized():
            ray.shutdown()
        if self._session is not None:  # every private ray.init leaves a folder behind
            shutil.rmtree(self._session, ignore_errors=True)
            self._session = None


def _trial_name(trial: Any) -> str:
    """Short: Tune's own names hold all parameters and overflow path lengths."""
    return f"trial-{trial.trial_id}"
