"""This module sets all of Ray's environment variables.

Import it before Ray, and call it before ``ray.init``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raynas.core import UserError
from raynas.core.printable import printable

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no network call that the user did not ask for
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of Tune's own
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
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # runs are resumed from our own store
}


def prepare() -> None:
    """Set Ray's environment variables that are not set yet; a user's own setting is kept."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:  # Ray reads the mode when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def prepare_to_join() -> None:
    """Set the mode of authentication, before a cluster is joined.

    Since Ray 2.59 clusters authenticate by token, and the mode must be explicit. Otherwise a
    machine that ever ran ``ray.init()`` cannot join a cluster.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def prepare_to_start() -> None:
    """Give a Ray that is started here its token, if no home folder can keep it.

    Ray would write a new one to the home folder, which users in containers often lack.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    place = Path.home() / ".ray" / "auth_token"
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not os.access(existing, os.R_OK if existing == place else os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for clusters of several machines; without them it listens on loopback only."""


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that is started in this context be reached from this machine only.

    Yields:
        None.
    """
    from ray._private import ray_constants

    before, constant = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS] = "0"  # for the processes that it starts
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if before is None:
            del os.environ[_CLUSTERS]
        else:
            os.environ[_CLUSTERS] = before


_SOCKET = 107
"""Bytes of a socket's path, by the operating system."""
_BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store_12")
_SHORT = Path("/tmp")


def short_folder() -> Path | None:
    """Make a folder for Ray's files if its own would make the paths of its sockets too long.

    Only this user may enter it; Ray would open its own folder to all users. The caller removes it.

    Returns:
        The folder; None if Ray's own is fine.

    Raises:
        UserError: If none can be made.
    """
    usual = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT) / "ray"
    if len(os.fsencode(usual)) + _BELOW <= _SOCKET:
        return None
    try:
        made = Path(tempfile.mkdtemp(prefix="raynas-", dir=_SHORT))
    except OSError as error:
        raise UserError(
            f"the temporary folder {usual} is too long a path for Ray's sockets (up to {_SOCKET} "
            f"bytes), and no shorter one can be created in {_SHORT}: {error.strerror}",
            hint="set RAY_TMPDIR to a folder with a short path, or use --local",
        ) from error
    line = f"the path {usual} is too long for Ray's sockets; Ray keeps its files in {made}"
    print(printable(line), file=sys.stderr)
    return made
