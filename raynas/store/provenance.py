"""This module records the origin of a row: source revision, versions, machine."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from raynas import version

_PACKAGES = ("torch", "ray", "optuna", "numpy", "pyarrow")


@dataclass(frozen=True)
class Provenance:
    """The origin of results. A field is empty where its value cannot be known.

    Devices are not included: only the worker knows its own.

    Attributes:
        git: The revision of the experiment's source, with ``-dirty`` if a tracked file has changed
            or the experiment's file is not tracked.
        versions: Versions by package.
        host: The name of the machine.
        platform: The operating system, as Python describes it.
        cpus: The number of CPUs of the machine.
    """

    git: str
    versions: Mapping[str, str]
    host: str
    platform: str
    cpus: int

    @classmethod
    def collect(cls, source_file: Path | str | None = None) -> Provenance:
        """Return the provenance of this process.

        It never fails, and imports none of the packages whose versions it records.

        Args:
            source_file: The experiment's file. Outside any repository, raynas' own revision is
                taken.

        Returns:
            The provenance.
        """
        own = Path(version.__file__).resolve()
        source = Path(source_file).resolve() if source_file else own
        return cls(
            git=_revision(source) or _revision(own, only_tracked=True),
            versions=_versions(),
            host=socket.gethostname(),
            platform=platform.platform(),
            cpus=os.cpu_count() or 1,
        )

    @property
    def versions_text(self) -> str:
        """The versions in the form of the result table.

        Returns:
            Text like ``python 3.12.1, raynas 0.1.0, ...``.
        """
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "raynas": version.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed made nothing
    return found


def _revision(file: Path, only_tracked: bool = False) -> str:
    """The revision of ``file``'s repository; empty without one (or, if asked, when untracked)."""
    head = _git(file.parent, "rev-parse", "--verify", "HEAD")
    if not head:
        return ""
    tracked = _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is not None
    if only_tracked and not tracked:  # for instance a virtual environment inside another repository
        return ""
    # Untracked files do not count: the folder of the runs is often one.
    changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return head if tracked and changed == "" else f"{head}-dirty"


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git; None if git is missing, refuses, or takes more than 10 seconds."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
