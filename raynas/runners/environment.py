"""All of Ray's environment variables, in one place. Import before Ray, call before ``ray.init``."""

from __future__ import annotations

import os

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no network call that the user did not ask for
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables; ours are raynas.live
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a user's relative paths stay right
    "RAY_worker_niceness": "0",  # Ray's 15 starves workers beside any other process
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run raynas` must not re-run uv in every worker
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files and 200 KB of driver memory a trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is handled by launch
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a decision after every measurement
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # on Ctrl-C; Tune would wait ten minutes for an epoch
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # workers' deaths are counted and shown by us
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # our store is the truth, not Tune's snapshots
}


def prepare() -> None:
    """Set what is not set yet; a user's own setting wins."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def prepare_to_join() -> None:
    """Since Ray 2.59 clusters authenticate by token, and the mode must be explicit.

    Otherwise a machine that ever ran ``ray.init()`` cannot join a cluster.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
