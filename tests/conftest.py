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


@cache
def _on_ray(file: str) -> bool:
    return _ON_RAY in (_ROOT / file).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests on Ray come first: they take longest, and wait more than they compute."""
    items.sort(key=lambda item: not _on_ray(item.nodeid.partition("::")[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile`` files with tests on Ray go to one process, which shares one Ray."""
    from xdist.scheduler import LoadFileScheduling

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _ON_RAY if _on_ray(file) else str(file)

    return OneRay(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def ray_session(shared_ray: SharedRay) -> TuneRunner:
    """The runner that keeps Ray alive."""
    return shared_ray.open()
