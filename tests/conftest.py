"""Common ground of the tests: one Ray for all that need no other, silence, threads for torch."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sessions import SharedRay

if TYPE_CHECKING:
    from raynas.runners.tune import TuneRunner

# before anything imports Ray: no statistics, a private session, no token files in the home folder
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# GPUs of the clusters here are only counted; workers inherit it from the process that starts Ray
os.environ.setdefault("RAYNAS_PRETEND_GPUS", "1")
# a shell that starts something in the background lets it ignore these, which children inherit
for _name in ("SIGINT", "SIGHUP"):
    if signal.getsignal(_signal := getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)
# no data set that `raynas data get` put into the home folder of who runs the tests
if "RAYNAS_CACHE" not in os.environ:
    os.environ["RAYNAS_CACHE"] = tempfile.mkdtemp(prefix="raynas-tests-")
    atexit.register(shutil.rmtree, os.environ["RAYNAS_CACHE"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Ray go to one process, which begins with them; those of another file stay together.

    They wait more than they compute, so another process has the other files meanwhile.
    """
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        on_ray = item.get_closest_marker("ray") is not None
        item.add_marker(pytest.mark.xdist_group("ray" if on_ray else item.path.stem))


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def ray_session(shared_ray: SharedRay) -> TuneRunner:
    """The runner that keeps Ray alive."""
    return shared_ray.open()
