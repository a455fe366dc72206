"""What a storage must be able to do, and which one a URI names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

Bytes = bytes | memoryview


class Refused(OSError):
    """The storage refuses for a reason that asking again does not change."""


class Stat(NamedTuple):
    """What a listing tells of a file.

    Attributes:
        size: In bytes.
        tag: Changes with the contents: an etag, or when the file was written.
        modified: When it was written, in seconds of the storage's own clock.
    """

    size: int
    tag: str
    modified: float


class Storage(Protocol):
    """Files by names with ``/``; each is there as a whole or not at all.

    Every method may raise OSError, after which the action may have happened, or happen yet.
    """

    def read(self, name: str) -> bytes:
        """Return the contents. Raises: FileNotFoundError."""

    def write(self, name: str, data: Bytes) -> None:
        """Make the file or replace it; until then readers see the older one."""

    def create(self, name: str, data: Bytes) -> None:
        """Make the file where there is none, in one step with the look whether there is one.

        Raises:
            FileExistsError: there is a file, whatever it holds.
        """

    def stats(self, folder: str = "") -> dict[str, Stat]:
        """List all files in ``folder`` and below it; none when it is not there."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it; one that is not there is no error."""


#: scheme -> the module of the store whose ``open_uri`` opens it
_SCHEMES = {
    "file": "local_storage",
    **dict.fromkeys(("s3", "gs", "gcs", "abfs", "abfss", "az"), "object_storage"),
}
OPENERS: dict[str, Callable[[str], Storage]] = {}
"""Scheme -> what opens its URIs; goes before those that are built in."""


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case; empty for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    return match[1].lower() if match else ""


def open_storage(uri: str) -> Storage:
    """Open the storage at ``uri``. Creating is exclusive on all but those of pyarrow (``hdfs://``).

    Raises:
        ValueError, OSError: it cannot be opened; the message may hold secrets of the URI.
    """
    scheme = scheme_of(uri)
    if scheme in OPENERS:
        return OPENERS[scheme](uri)
    module = importlib.import_module(f"raynas.store.{_SCHEMES.get(scheme, 'arrow_storage')}")
    found: Storage = module.open_uri(uri)
    return found
