"""Where the files of a data set may lie, in which forms, and who publishes them.

A data set says so once, in the ``source`` of its class: reading it, ``raynas data`` and
``raynas data get`` go by it.
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
from raynas.data.files import not_found, roots

_LARGEST = 1 << 30
"""Bytes of a file of images; what unpacks to more is none."""


@dataclass(frozen=True)
class Layout:
    """A form in which a data set lies in one folder.

    Attributes:
        name: What its files are called together.
        files: Their names, or patterns with ``*``; the set is whole when all are there. A name
            stands for the file with ``.gz`` and without.
        md5: Sums of the files by name, unpacked where they are gzipped; empty where the publisher
            gives none.
        own: Whether a folder with some of the names holds this set, though it is incomplete. Names
            that other sets have too say so only when all are there.
    """

    name: str
    files: tuple[str, ...]
    md5: Mapping[str, str] = field(default_factory=dict)
    own: bool = True

    def missing(self, place: Path) -> tuple[str, ...]:
        """Return the names that are not in the folder ``place``."""
        return tuple(name for name in self.files if not _there(place, name))

    def damaged(self, place: Path) -> Path | None:
        """Return the first file that is not what its publisher gives out; all must be there."""
        for name, md5 in self.md5.items():
            path = one_of_both(place / name)
            if _content_md5(path) != md5:
                return path
        return None


def one_of_both(path: Path) -> Path:
    """``path``, or the one with .gz (without it) when only that is there."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return other if _is_file(other) and not _is_file(path) else path


def _there(place: Path, name: str) -> bool:
    if "*" in name:
        return any(_is_file(place / other) for other in fnmatch.filter(_names(place), name))
    return _is_file(one_of_both(place / name))


def _names(place: Path) -> list[str]:
    """What a folder holds; nothing where it is none, or nobody may look."""
    try:
        return os.listdir(place)  # noqa: PTH208 - names, as many as there are
    except (OSError, ValueError):
        return []


def _is_file(path: Path) -> bool:
    """False for what nobody may look at, where the method of Path raises an error."""
    return os.path.isfile(path)  # noqa: PTH113


def _content_md5(path: Path) -> str:
    """Of the unpacked content; empty for a gzip file that is damaged or far too large."""
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
class File:
    """A file that a publisher gives out: its address, MD5 sum and size in bytes."""

    url: str
    md5: str
    size: int

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Download:
    """What is fetched for a data set.

    Attributes:
        publisher: Who gives the files out, in words.
        files: Tar archives, or the files themselves.
        folder: What then lies in the data folder. An archive holds it; other files are put there.
        unpacked: Bytes that all archives may unpack to; 0 where the files are no archives.
    """

    publisher: str
    files: tuple[File, ...]
    folder: str
    unpacked: int = 0

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Found:
    """A folder with files of a data set, and the names that are not there."""

    place: Path
    layout: Layout
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a data set may lie, and how to get it.

    Attributes:
        name: As in ``raynas data get NAME``.
        title: In words.
        what: Images and classes, in one line.
        layouts: The forms in which it is known.
        otherwise: How else to get it, for people; the cure where it is not found.
        below: Subfolders of a data folder that are looked into, after the data folder itself.
        usual: Data folders besides the user's own.
        package: Name under which a package is imported that holds the files; it is not imported.
        in_folders: Whether it may lie in data folders.
        download: None for what nobody gives out as a plain file.
    """

    name: str
    title: str
    what: str
    layouts: tuple[Layout, ...]
    otherwise: str
    below: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    package: str = ""
    in_folders: bool = True
    download: Download | None = None

    def roots(self, folder: str | Path | None = None) -> list[Path]:
        """Return the data folders that are looked into: ``folder`` only when given."""
        return roots(folder, *self.usual) if self.in_folders else []

    def places(self, folder: str | Path | None = None) -> list[Path]:
        """Return every folder that is looked into, the first one first."""
        found = [root / below for root in self.roots(folder) for below in ("", *self.below)]
        if self.package and (folder is None or not self.in_folders):
            package = package_folder(self.package)
            found += [package] if package is not None else []
        return found

    def find(self, folder: str | Path | None = None) -> Found | None:
        """Look for the files.

        Args:
            folder: The one data folder to look into; None looks where users have data.

        Returns:
            The first folder in which the set is whole, else the first with some of it, else None.
        """
        some: Found | None = None
        for place in self.places(folder):
            for layout in self.layouts:
                missing = layout.missing(place)
                if not missing:
                    return Found(place, layout)
                if some is None and layout.own and len(missing) < len(layout.files):
                    some = Found(place, layout, missing)
        return some

    def require(self, folder: str | Path | None = None) -> Found:
        """Look for the files, all of which must be there.

        Raises:
            UserError: They are not, or not all; names the command that fetches them.
        """
        found = self.find(folder)
        if found is None:
            raise not_found(self.title, self.places(folder), self.cure(folder), folder)
        if found.missing:
            path = found.place / found.missing[0]
            again = f"`{self.command(folder)}`, or " if self.download else ""
            raise UserError(
                f"{self.title}: file {path} is missing", cure=f"{again}unpack the data set again"
            )
        return found

    def command(self, folder: str | Path | None = None) -> str:
        """What to type for it."""
        return f"raynas data get {self.name}" + (
            f" --folder {shlex.quote(str(folder))}" if folder is not None else ""
        )

    def cure(self, folder: str | Path | None = None) -> str:
        """How to get it, as a cure of an error."""
        if self.download is None:
            return self.otherwise
        return f"`{self.command(folder)}` fetches it; or {self.otherwise}"


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) if places else None


def size_text(count: int) -> str:
    """``31_000_000`` -> ``31 MB``."""
    return f"{count / 1e6:,.0f} MB" if count >= 999_500 else f"{math.ceil(count / 1e3)} kB"
