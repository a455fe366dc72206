"""This module describes where the files of data sets are, in which forms, and who publishes them.

A data set says so once, in the ``source`` of its class. Reading the set, ``raynas data`` and
``raynas data get`` all use it.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import importlib.util
import math
import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raynas.core import UserError
from raynas.core.renamed import renamed_names
from raynas.data.files import not_found, roots

_LARGEST = 1 << 30
"""The largest unpacked size in bytes of a file of images."""


@dataclass(frozen=True)
class FileLayout:
    """A form in which a data set lies in one folder.

    Attributes:
        name: The name of the form, as in "IDX files".
        files: File names, or patterns with ``*``. The set is complete when all are there. A name
            stands for the file with ``.gz`` and without.
        md5: MD5 sums of the files by name, of the unpacked content where they are gzipped; empty
            where the publisher gives none.
        own: A folder with only some of the names holds this set, incomplete. False for names that
            other sets have too: then only a folder with all of them holds this set.
    """

    name: str
    files: tuple[str, ...]
    md5: Mapping[str, str] = field(default_factory=dict)
    own: bool = True

    def missing(self, place: Path) -> tuple[str, ...]:
        """Return the names of the layout that are not in a folder.

        Args:
            place: The folder. It may not exist.

        Returns:
            The missing names or patterns; empty for a complete set.
        """
        return tuple(name for name in self.files if not _there(place, name))

    def damaged(self, place: Path) -> Path | None:
        """Return the first file whose content is not the publisher's.

        Args:
            place: A folder in which all files of the layout are there.

        Returns:
            The path of the file, or None if all sums are right.
        """
        for name, md5 in self.md5.items():
            path = one_of_both(place / name)
            if _content_md5(path) != md5:
                return path
        return None


def one_of_both(path: Path) -> Path:
    """Return a path, or its twin with or without .gz if only the twin exists.

    Args:
        path: The path of a file.

    Returns:
        ``path`` if it is a file, or if neither exists; else the other one.
    """
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return other if _is_file(other) and not _is_file(path) else path


def _there(place: Path, name: str) -> bool:
    if "*" in name:
        return any(_is_file(place / other) for other in fnmatch.filter(_names(place), name))
    return _is_file(one_of_both(place / name))


def _names(place: Path) -> list[str]:
    """Return the names in a folder; empty if it is not a folder or cannot be read."""
    try:
        return os.listdir(place)  # noqa: PTH208 - names, as many as there are
    except (OSError, ValueError):
        return []


def _is_file(path: Path) -> bool:
    """Return False for a file that cannot be looked at, where ``Path.is_file`` raises an error."""
    return os.path.isfile(path)  # noqa: PTH113


def _content_md5(path: Path) -> str:
    """Return the sum of the unpacked content; empty for a damaged or far too large gzip file."""
    digest, read = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            while block := stream.read(1 << 20):
                digest.update(block)
                read += len(block)
                if read > _LARGEST:
                    return ""
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return ""
    return digest.hexdigest()


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher provides it.

    Attributes:
        url: The address of the file.
        md5: Its MD5 sum in hexadecimal digits.
        size: Its size in bytes.
    """

    url: str
    md5: str
    size: int

    @property
    def name(self) -> str:
        """The file name, the last part of the URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DatasetDownload:
    """A description of the files to fetch for a data set.

    Attributes:
        publisher: The publisher's name in words.
        files: Tar archives, or the data files themselves.
        folder: The folder that is then in the data folder. An archive contains it; other files are
            put into it.
        unpacked: The largest size in bytes of everything the archives unpack to; 0 if the files are
            not archives.
    """

    publisher: str
    files: tuple[PublishedFile, ...]
    folder: str
    unpacked: int = 0

    @property
    def size(self) -> int:
        """The number of bytes to fetch."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class FoundFiles:
    """A folder with files of a data set.

    Attributes:
        place: The folder.
        layout: The form in which the set lies there.
        missing: The names of files that are not there; empty for a complete set.
    """

    place: Path
    layout: FileLayout
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSource:
    """A description of where a data set may lie, and how to get it.

    Attributes:
        name: The name, as in ``raynas data get NAME``.
        title: The name in words.
        what: Images and classes, in one line.
        layouts: The forms in which the set is known.
        otherwise: Advice how else to get it, for error messages.
        below: Subfolders of a data folder to look into, after the data folder itself.
        usual: Data folders besides the user's own.
        package: The import name of a package that contains the files; it is not imported.
        in_folders: The set may lie in data folders.
        download: A description of the files to fetch; None if nobody provides them as plain files.
    """

    name: str
    title: str
    what: str
    layouts: tuple[FileLayout, ...]
    otherwise: str
    below: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    package: str = ""
    in_folders: bool = True
    download: DatasetDownload | None = None

    def roots(self, folder: str | Path | None = None) -> list[Path]:
        """Return the data folders to look into.

        Args:
            folder: The one data folder; None takes all usual ones.

        Returns:
            Folders in the order of the search; empty for a set that never lies in data folders.
        """
        return roots(folder, *self.usual) if self.in_folders else []

    def places(self, folder: str | Path | None = None) -> list[Path]:
        """Return every folder to look into, with subfolders and the package's folder.

        Args:
            folder: The one data folder; None takes all usual ones.

        Returns:
            Folders in the order of the search. They may not exist.
        """
        found = [root / below for root in self.roots(folder) for below in ("", *self.below)]
        if self.package and (folder is None or not self.in_folders):
            package = package_folder(self.package)
            found += [package] if package is not None else []
        return found

    def find(self, folder: str | Path | None = None) -> FoundFiles | None:
        """Look for the files of the data set.

        Args:
            folder: The one data folder to look into; None looks into the usual ones.

        Returns:
            The first folder in which the set is complete, else the first with some of it, else
            None.
        """
        some: FoundFiles | None = None
        for place in self.places(folder):
            for layout in self.layouts:
                missing = layout.missing(place)
                if not missing:
                    return FoundFiles(place, layout)
                if some is None and layout.own and len(missing) < len(layout.files):
                    some = FoundFiles(place, layout, missing)
        return some

    def require(self, folder: str | Path | None = None) -> FoundFiles:
        """Look for the files of the data set, all of which must be there.

        Args:
            folder: The one data folder to look into; None looks into the usual ones.

        Returns:
            The folder with the complete set.

        Raises:
            DataNotFound: No file of the set was found in the usual folders. The error names the
                command that fetches it.
            UserError: No file was found in ``folder``, or a file of the set is missing.
        """
        found = self.find(folder)
        if found is None:
            raise not_found(self.title, self.places(folder), self.hint(folder), folder)
        if found.missing:
            path = found.place / found.missing[0]
            again = f"`{self.command(folder)}`, or " if self.download else ""
            raise UserError(
                f"{self.title}: file {path} is missing", hint=f"{again}unpack the data set again"
            )
        return found

    def command(self, folder: str | Path | None = None) -> str:
        """Return the shell command that fetches the data set.

        Args:
            folder: The data folder to fetch it into; None takes the default.

        Returns:
            The command line, quoted for a shell.
        """
        return f"raynas data get {self.name}" + (
            f" --folder {shlex.quote(str(folder))}" if folder is not None else ""
        )

    def hint(self, folder: str | Path | None = None) -> str:
        """Return advice how to get the data set, for an error message.

        Args:
            folder: The data folder to fetch it into; None takes the default.

        Returns:
            The command that fetches it, if there is one, and other ways.
        """
        if self.download is None:
            return self.otherwise
        return f"`{self.command(folder)}` fetches it; or {self.otherwise}"


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package without importing it.

    Args:
        name: The import name of a top-level package.

    Returns:
        The folder, or None if the package is not installed.
    """
    found = importlib.util.find_spec(name)
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) if places else None


def size_text(count: int) -> str:
    """Return a size in words, in MB, or in kB if it is below one MB.

    Args:
        count: The size in bytes.

    Returns:
        The rounded size with its unit.

    Example:
        >>> size_text(31_000_000), size_text(5_148)
        ('31 MB', '6 kB')
    """
    return f"{count / 1e6:,.0f} MB" if count >= 999_500 else f"{math.ceil(count / 1e3)} kB"


__getattr__ = renamed_names(
    __name__,
    Layout="FileLayout",
    File="PublishedFile",
    Download="DatasetDownload",
    Source="DatasetSource",
)
