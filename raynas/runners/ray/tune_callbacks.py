"""This module has callbacks of Ray Tune that keep its memory small and its output empty."""

from __future__ import annotations

import time
from typing import Any

from raynas.runners.ray import environment
from raynas.runners.ray.tune_search import TuneHooks

environment.prepare()  # before Ray is imported

from ray import tune  # noqa: E402
from ray.tune.progress_reporter import TrialProgressCallback  # noqa: E402

#: where Tune's controller keeps trials that ended
_KEPT_BY_TUNE = (
    "_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache", "_resetting_trials",
)  # fmt: skip


class TrialRecords(tune.Callback):
    """A callback that notes when workers begin, and removes trials that ended from Tune.

    Tune keeps all trials of a fit, with configurations, last results and statistics, visits them
    in every step, and writes them down at the end: 45 KB for each trial, and time that grows with
    their number. The search has all that is needed.
    """

    def __init__(self, hooks: TuneHooks) -> None:
        self._hooks = hooks

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the time at which a trial began."""
        self._hooks.heard[trial.config["job"].trial] = time.monotonic()
        self._hooks.work.waits_for = ""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Remove trials that ended from Tune's list."""
        rested = self._hooks.rested
        while rested and len(trials) > 1:  # without any trial Tune would look for them in its files
            controller, trial = rested.pop()
            self._hooks.heard.pop(trial.config["job"].trial, None)
            for name in _KEPT_BY_TUNE:
                kept = getattr(controller, name)
                if trial in kept:
                    kept.remove(trial)


class SilentReporter(TrialProgressCallback):
    """A callback that prints nothing, in the place of Tune's own.

    Tune's own would keep every trial to print its last result once.
    """

    def on_trial_result(self, *what: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_error(self, *what: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, *what: Any, **info: Any) -> None:
        """Print nothing."""
