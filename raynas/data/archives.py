"""This module unpacks what a publisher gives out, and nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from raynas.core import UserError
from raynas.core.errors import first_line
from raynas.core.printable import printable
from raynas.data.source import DatasetDownload, DatasetSource, size_text

_MEMBERS = 1000


def unpack(archives: list[Path], to: Path, download: DatasetDownload) -> None:
    """Unpack the regular files below ``download.folder`` of each archive, and nothing else.

    Args:
        archives: The archives.
        to: The folder that is made for the files.
        download: Says what the archives hold.

    Raises:
        UserError: An archive is damaged, or holds more than is known.
    """
    left = download.unpacked
    to.mkdir(parents=True)
    for path in archives:
        try:
            with tarfile.open(path) as archive:
                for count, member in enumerate(archive):
                    left -= member.size
                    if left < 0 or count >= _MEMBERS:
                        raise _strange(path.name, f"holds more than {size_text(download.unpacked)}")
                    if not _is_below(member, download.folder):
                        raise _strange(path.name, f"holds {printable(member.name)[:80]!r}")
                    archive.extract(member, to, **_FILTER)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # what is damaged may fail anywhere in the reader
            if isinstance(error, OSError) and error.errno is not None:  # of the system, not of gzip
                raise
            raise _strange(path.name, f"is damaged ({printable(first_line(error))})") from None


#: Python 3.11.0 to 3.11.3 have no filters; what gets here is a plain file or folder all the same
_FILTER: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _is_below(member: tarfile.TarInfo, folder: str) -> bool:
    parts = member.name.removeprefix("./").rstrip("/").split("/")
    regular = (member.isreg() and len(parts) > 1) or member.isdir()
    return regular and parts[0] == folder and ".." not in parts and "\0" not in member.name


def _strange(name: str, how: str) -> UserError:
    return UserError(f"the publisher's {name} {how}; nothing of it is kept")


def check_unpacked(source: DatasetSource, place: Path) -> None:
    """Check that a data set can be read from the folder in which it was unpacked.

    Args:
        source: The data set.
        place: The folder.

    Raises:
        UserError: A file is missing, or has another sum than the publisher's.
    """
    lacking = [layout.missing(place) for layout in source.layouts]
    if all(lacking):
        raise _strange(place.name, f"has no {lacking[0][0]}")
    layout = source.layouts[lacking.index(())]
    bad = layout.damaged(place)
    if bad is not None:
        raise _strange(place.name, f"has another {bad.name} than its publisher")
