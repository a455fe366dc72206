"""The files of runs that live elsewhere: on S3, GCS, Azure, HDFS or a mounted disk.

A run at a URI has a working copy, an ordinary run folder on this machine. The URI is the authority:
an append returns only when its fragment is stored there, too. A process that opens the run on
another machine fetches what is new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from raynas.core import UserError
from raynas.core.printable import brief
from raynas.store.storage import Bytes, FileStat, Storage, StorageRefused, open_storage, scheme_of
from raynas.store.system import system
from raynas.store.uris import scrubbed, shown

T = TypeVar("T")
_TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds


def is_uri(place: object) -> bool:
    """Return True if a user's text names a location by a scheme, as ``s3://bucket/run``.

    Args:
        place: The text, or a path.

    Returns:
        False for a path.

    Example:
        >>> is_uri("s3://bucket/run"), is_uri("runs/first")
        (True, False)
    """
    return bool(scheme_of(str(place)))


@dataclass(frozen=True)
class RemoteFolder:
    """The files below one URI, by names with ``/``.

    Calls that fail are repeated for about 20 seconds. Every file is there as a whole or not at all.
    The pickled form is the URI. No error message contains a secret of the URI.

    Attributes:
        uri: The URI, possibly with secrets.
    """

    uri: str = field(repr=False)

    def __repr__(self) -> str:
        return f"Remote({self.shown!r})"

    @cached_property
    def _storage(self) -> Storage:
        from pyarrow import ArrowException

        try:
            return open_storage(self.uri)
        except (ArrowException, OSError, ValueError, KeyError) as error:
            raise self._unopened(error) from None
        except Exception as error:
            if type(error).__module__.startswith("obstore"):
                raise self._unopened(error) from None
            raise

    def _unopened(self, error: BaseException) -> UserError:
        return UserError(
            f"storage {self.shown!r} cannot be opened: {self._line(error)}",
            expected="file:///..., s3://bucket/..., gs://bucket/..., abfs://..., hdfs://host:port/...",
            hint="check the scheme, the region and the credentials",
        )

    @property
    def shown(self) -> str:
        """The URI for messages.

        Returns:
            The URI without credentials and options.
        """
        return shown(self.uri)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    def below(self, name: str) -> RemoteFolder:
        """Return the files in a folder of this one.

        Args:
            name: The name of the folder, with ``/``.

        Returns:
            A remote whose names are relative to that folder.
        """
        path, question, query = self.uri.partition("?")
        return RemoteFolder(f"{path.rstrip('/')}/{name}{question}{query}")

    def write(self, name: str, data: Bytes) -> None:
        """Write or replace a file, whole or not at all; until then readers see the older one.

        Args:
            name: The name of the file, with ``/``.
            data: Its contents.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened.
        """
        self._patiently(lambda: self._storage.write(name, data), f"writing {name}")

    def create(self, name: str, data: Bytes) -> None:
        """Create a file that does not exist; a file that already holds ``data`` is not an error.

        Args:
            name: The name of the file, with ``/``.
            data: Its contents.

        Raises:
            FileExistsError: A file with other contents exists.
            OSError: The storage refuses. The file may exist, or appear later.
            UserError: The storage cannot be opened.
        """

        def put() -> None:
            try:
                self._storage.create(name, data)
            except FileExistsError:
                if not self._holds(name, data):
                    raise

        self._patiently(put, f"creating {name}")

    def _holds(self, name: str, data: Bytes) -> bool:
        """Return True if the file has these contents, as after a request that seemed to fail."""
        try:
            return self._storage.read(name) == data
        except FileNotFoundError:  # two requests met, and neither was carried out
            raise OSError(5, f"{name} could be neither created nor read") from None

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Args:
            name: The name of the file, with ``/``.

        Returns:
            The contents.

        Raises:
            FileNotFoundError: The file does not exist.
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened.
        """
        return self._patiently(lambda: self._storage.read(name), f"reading {name}")

    def names(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of all files in a folder and below it.

        Args:
            folder: The name of the folder; empty for all files.

        Returns:
            Sizes in bytes, by name relative to this remote.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened, or lists a name that is not below it.
        """
        return {name: stat.size for name, stat in self.stats(folder).items()}

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        """Return size, tag and time of all files in a folder and below it.

        Args:
            folder: The name of the folder; empty for all files.

        Returns:
            Stats by name relative to this remote.

        Raises:
            OSError: The storage still refuses after all tries.
            UserError: The storage cannot be opened, or lists a name that is not below it.
        """
        found = self._patiently(lambda: self._storage.stats(folder), f"listing {folder or 'all'}")
        for name in found:
            if not is_below(name):
                raise UserError(
                    f"storage {self.shown} lists a file with the name {brief(name)}",
                    expected="names below the run's own folder, without '..'",
                    hint="remove that file; it was not written by raynas",
                )
        return found

    def remove(self, name: str) -> None:
        """Remove a file; a missing file is not an error.

        Args:
            name: The name of the file, with ``/``.

        Raises:
            OSError: The storage still refuses after all tries.
        """
        self._patiently(lambda: self._storage.remove(name), f"removing {name}")

    def remove_folder(self, name: str) -> None:
        """Remove a folder with its contents; a missing folder is not an error.

        Args:
            name: The name of the folder, with ``/``.

        Raises:
            OSError: The storage still refuses after all tries.
        """
        self._patiently(lambda: self._storage.remove_folder(name), f"removing {name}")

    def _patiently(self, action: Callable[[], T], doing: str) -> T:
        """Return the result of ``action``, repeated with growing pauses while the storage fails."""
        pause = _FIRST_PAUSE
        for rest in reversed(range(_TRIES)):
            try:
                return action()
            except (FileNotFoundError, FileExistsError) as error:
                raise type(error)(
                    error.errno or 5, f"{doing}: {self._line(error)}", self.shown
                ) from None
            except OSError as error:
                if rest == 0 or _is_final(error):
                    text = f"{doing}: {self._line(error)}"
                    raise OSError(error.errno or 5, text, self.shown) from None
            system().sleep(pause * system().uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last try returns or raises")

    def _line(self, error: BaseException) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return scrubbed(text, self.uri)[:300]


def _is_final(error: OSError) -> bool:
    """Return True for an error that repeating does not change: no rights, no bucket, wrong keys."""
    text = str(error)
    words = ("ACCESS_DENIED", "AccessDenied", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE")
    return isinstance(error, PermissionError | StorageRefused) or any(
        word in text for word in words
    )


def is_below(name: str) -> bool:
    """Return True if the name of a stored file stays below the folder that it is put into.

    Args:
        name: The name of the file, with ``/``.

    Returns:
        False for a name with ``..``, a backslash, a null character or an empty part.

    Example:
        >>> is_below("checkpoints/000001/state.json"), is_below("../run.json")
        (True, False)
    """
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in name or "\0" in name)
