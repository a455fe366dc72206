"""This module gives each job a folder of its own on its worker.

An earlier worker that still writes for the same trial cannot reach it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from raynas.core import Architecture, Job
from raynas.store.checkpoint_mirror import CheckpointMirror
from raynas.store.claims import FolderClaim, newest
from raynas.store.remote import RemoteFolder


@dataclass(frozen=True)
class JobFolder:
    """The folder in which a job keeps its files.

    Attributes:
        job: The job, with ``workdir`` as its evaluator is to see it.
        fresh: True if it begins with an empty folder.
        push: Copies what is new to shared storage; to be called before a measurement is reported.
    """

    job: Job
    fresh: bool
    push: Callable[[], None]


@contextlib.contextmanager
def job_folder(job: Job, arch: Architecture) -> Iterator[JobFolder]:
    """Give the job its own folder, with the files that the trial's last job has left.

    A folder belongs to a trial, an architecture and one job (``Job.claim``). A worker that was
    taken for dead may go on in the folder that it had; nothing that it does there is seen. What
    another architecture left under the same number is removed.

    Args:
        job: As the search gave it out. Without a ``claim`` its workdir is its own already.
        arch: The architecture that is evaluated.

    Yields:
        The folder. Afterwards it is removed from this machine if shared storage has it.

    Raises:
        OSError: If the folder or the storage cannot be read or written.
    """
    if job.workdir is None:
        yield JobFolder(job, fresh=True, push=_nothing)
    elif not job.claim:
        yield JobFolder(job, fresh=not job.workdir.exists(), push=_nothing)
    elif job.mirror:
        with _mirrored(job, FolderClaim(job.claim, arch.id)) as folder:
            yield folder
    else:
        own = FolderClaim(job.claim, arch.id)
        found = _take_over(job.workdir, own, begun=_begun(job))
        own_job = replace(job, workdir=job.workdir / own.name)
        yield JobFolder(own_job, fresh=not found, push=_nothing)


def _nothing() -> None:
    return None


def _begun(job: Job) -> bool:
    """Return True if the trial was measured or tried before, so that unnamed files are its own."""
    return bool(job.stored) or job.attempt > 0


def _take_over(root: Path, own: FolderClaim, *, begun: bool) -> bool:
    """Rename the folder of the trial's last job to the name of this one.

    Returns:
        True if there was one.
    """
    if not root.is_dir():
        return False
    names = [place.name for place in root.iterdir() if not place.name.startswith(".tmp")]
    last = newest(names, own)
    if last is None and begun and names and not any(FolderClaim.parse(name) for name in names):
        return _adopt_unnamed(root, own, names)
    for name in names:
        if name != last:
            _remove(root / name)
    if last is not None and last != own.name:
        (root / last).rename(root / own.name)
    return last is not None


def _adopt_unnamed(root: Path, own: FolderClaim, names: list[str]) -> bool:
    """Move the files of runs of earlier versions, which lie in the trial's folder itself."""
    (root / own.name).mkdir()
    for name in names:
        (root / name).rename(root / own.name / name)
    return True


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


@contextlib.contextmanager
def _mirrored(job: Job, own: FolderClaim) -> Iterator[JobFolder]:
    """Give a folder copied from shared storage, and remove it from this machine at the end."""
    assert job.workdir is not None
    local, root = job.workdir / own.name, RemoteFolder(job.mirror)
    shutil.rmtree(job.workdir, ignore_errors=True)  # of whoever worked here before
    there = root.names()
    names = {name.partition("/")[0] for name in there}
    last = newest(names, own)
    unnamed = not any(FolderClaim.parse(name) for name in names)
    if last is not None:
        CheckpointMirror(local, root.below(last)).pull()
    elif unnamed and there and _begun(job):
        CheckpointMirror(local, root).pull()
    found = local.is_dir()
    mirror = CheckpointMirror(local, root.below(own.name))
    if last != own.name:
        mirror.push()
        _clear(root, there, own)
    try:
        yield JobFolder(replace(job, workdir=local), fresh=not found, push=mirror.push)
        mirror.push()
    finally:
        shutil.rmtree(job.workdir, ignore_errors=True)


def _clear(root: RemoteFolder, there: dict[str, int], own: FolderClaim) -> None:
    """Remove what earlier jobs left in shared storage; if that fails, it only takes space."""
    with contextlib.suppress(OSError):
        for name in there:
            if not name.startswith(f"{own.name}/"):
                root.remove(name)
