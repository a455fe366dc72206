"""This module has the interface of a storage, and opens the one that a URI names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

Bytes = bytes | memoryview


class StorageRefused(OSError):
    """An error of the storage that does not change if the call is repeated."""


class FileStat(NamedTuple):
    """The entry of a file in a listing.

    Attributes:
        size: The size in bytes.
        tag: A value that changes with the contents: an etag, or the time when the file was written.
        modified: The time when it was written, in seconds of the storage's own clock.
    """

    size: int
    tag: str
    modified: float


class Storage(Protocol):
    """Files by names with ``/``; each is there as a whole or not at all.

    Every method may raise OSError, after which the action may have happened, or happen later.
    """

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Args:
            name: The name of the file, with ``/``.

        Returns:
            The contents.

        Raises:
            FileNotFoundError: The file does not exist.
        """

    def write(self, name: str, data: Bytes) -> None:
        """Write or replace a file; until then readers see the older one.

        Args:
            name: The name of the file, with ``/``. Folders in it are made as needed.
            data: Its contents.
        """

    def create(self, name: str, data: Bytes) -> None:
        """Create a file that does not exist; check and creation are one step.

        Args:
            name: The name of the file, with ``/``. Folders in it are made as needed.
            data: Its contents.

        Raises:
            FileExistsError: A file exists, whatever it holds.
        """

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """List all files in a folder and below it.

        Args:
            folder: The name of the folder; empty for all files. It may not exist.

        Returns:
            Stats by name, relative to the storage.
        """

    def remove(self, name: str) -> None:
        """Remove a file; a missing file is not an error.

        Args:
            name: The name of the file, with ``/``.
        """

    def remove_folder(self, name: str) -> None:
        """Remove a folder with its contents; a missing folder is not an error.

        Args:
            name: The name of the folder, with ``/``.
        """


#: scheme -> the module of the store whose ``open_uri`` opens it
_SCHEMES = {
    "file": "local_storage",
    **dict.fromkeys(("s3", "gs", "gcs", "abfs", "abfss", "az"), "object_storage"),
}
OPENERS: dict[str, Callable[[str], Storage]] = {}
"""A scheme -> the function that opens its URIs; looked up before the built-in ones."""


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI.

    Args:
        uri: A URI, or a path.

    Returns:
        The scheme in lower case; empty for a path.

    Example:
        >>> scheme_of("S3://bucket/run"), scheme_of("runs/first")
        ('s3', '')
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    return match[1].lower() if match else ""


def open_storage(uri: str) -> Storage:
    """Open the storage at a URI.

    ``create`` is exclusive on all storages but those of pyarrow (``hdfs://``).

    Args:
        uri: The URI, with credentials and options if needed.

    Returns:
        The storage.

    Raises:
        ValueError: The URI is not valid. The message may contain secrets of the URI.
        OSError: The storage cannot be opened. The message may contain secrets of the URI.
    """
    scheme = scheme_of(uri)
    if scheme in OPENERS:
        return OPENERS[scheme](uri)
    module = importlib.import_module(f"raynas.store.{_SCHEMES.get(scheme, 'arrow_storage')}")
    found: Storage = module.open_uri(uri)
    return found
