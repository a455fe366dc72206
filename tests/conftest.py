"""Common ground of the tests: one Ray for all that need no other, silence, threads for torch."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sessions import SharedRay

if TYPE_CHECKING:
    from raynas.runners.ray.tune import TuneRunner

_ROOT = Path(__file__).resolve().parents[1]
# before anything imports Ray: no statistics, a private session, no token files in the home folder
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# as many workers as there are cores start with Ray, without what actors need, and idle
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
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


_ON_RAY = "pytest.mark.ray"
_LONG_ON_RAY = "@pytest.mark.long\n@pytest.mark.ray\n"
_SHARED = ("ray_session", "tune:", "RayRunner(")  # in files whose tests join the shared Ray


@cache
def _lane(file: str) -> str:
    """Which process runs a file: that with the shared Ray, that whose tests start others, any."""
    text = (_ROOT / file).read_text(encoding="utf-8").replace(_LONG_ON_RAY, "")
    if _ON_RAY not in text:
        return file
    return "shared Ray" if any(name in text for name in _SHARED) else "own Ray"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests on Ray come first: they take longest, and wait more than they compute."""

    def last(item: pytest.Item) -> bool:
        file = item.nodeid.partition("::")[0]
        return _lane(file) == file

    items.sort(key=last)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile`` there are two processes with tests on Ray: one that shares one Ray,
    and one for the tests that start drivers, each with a Ray of its own."""
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _lane(str(super()._split_scope(nodeid)))

    return Lanes(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def ray_session(shared_ray: SharedRay) -> TuneRunner:
    """The runner that keeps Ray alive."""
    return shared_ray.open()


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Figures of reports are made but not drawn: drawing takes half the time of a small run.

    For files whose tests do not look at pictures; those of ``unit/reports`` do.
    """
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda *_arguments, **_settings: None)
        yield
