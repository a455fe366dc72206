"""This module finds data files, checks their sums, and caches the images that were read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from raynas.core import UserError
from raynas.data.images import Images, frozen

DATA_VARIABLE = "RAYNAS_DATA"
CACHE_VARIABLE = "RAYNAS_CACHE"
DEFAULT_CACHE = "~/.cache/raynas"
_REMEMBERED = 4  # train and test of two sets

_memory: OrderedDict[object, Images] = OrderedDict()
_lock = threading.RLock()


def roots(folder: str | Path | None, *usual: str) -> list[Path]:
    """Return the data folders to look into.

    Args:
        folder: The one folder to look into. None takes the user's own data folders and ``usual``.
        *usual: Data folders besides the user's own.

    Returns:
        The folders in the order of the search. They may not exist.

    Raises:
        UserError: ``folder`` is of a user who does not exist (``~nobody/data``).
    """
    if folder is not None:
        return [expanded(folder)]
    return [*own_roots(), *map(Path, usual)]


def own_roots() -> list[Path]:
    """Return the user's data folders; ``raynas data get`` puts a data set into the first.

    Returns:
        $RAYNAS_DATA if it is set, then ``data`` in the cache folder of raynas ($RAYNAS_CACHE,
        default ~/.cache/raynas) if there is one.

    Raises:
        UserError: $RAYNAS_DATA names a folder of a user who does not exist.
    """
    named, kept = os.environ.get(DATA_VARIABLE), kept_folder()
    return [*([expanded(named)] if named else []), *([kept / "data"] if kept else [])]


def kept_folder() -> Path | None:
    """Return the cache folder of raynas.

    Returns:
        $RAYNAS_CACHE, default ~/.cache/raynas. None if it is ``off``, and for a user without a
        home.
    """
    folder = os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE
    try:
        return None if folder == "off" else Path(folder).expanduser()
    except RuntimeError:
        return None


def expanded(folder: str | Path) -> Path:
    """Return the folder with ``~`` replaced by the home folder.

    Args:
        folder: A path, which may begin with ``~`` or ``~user``.

    Returns:
        The path without ``~``.

    Raises:
        UserError: The user has no home folder.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise UserError(f"folder {str(folder)!r}: no such user", hint="give its path") from None


class DataNotFound(UserError):
    """An error for a data set that is in none of the usual folders, when no folder was named."""


def not_found(
    what: str, looked: Sequence[Path], hint: str, folder: str | Path | None = None
) -> UserError:
    """Return the error for a data set that is in none of the folders.

    Args:
        what: The data set in words.
        looked: The folders that were looked into.
        hint: The advice how to get the data set.
        folder: The folder that the user named, or None.

    Returns:
        A :class:`DataNotFound` if no folder was named, else a plain UserError.
    """
    kind = DataNotFound if folder is None else UserError
    where = ", ".join(map(str, looked)) or f"no folder given and ${DATA_VARIABLE} not set"
    return kind(f"{what} not found (looked in: {where})", hint=hint)


def require(paths: Iterable[Path], what: str) -> None:
    """Check that all files exist.

    Args:
        paths: The files.
        what: The name of the data set, which opens the error message.

    Raises:
        UserError: One of ``paths`` is not a file. The error names the first one.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"{what}: file {path} is missing", hint="unpack the data set again")


def check_md5(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare files of a folder with their MD5 sums.

    Args:
        folder: The folder of the files.
        expected: The MD5 sum in hexadecimal digits, by file name.

    Raises:
        UserError: A sum differs. The error names the file, the expected and the found sum.
        OSError: A file cannot be read.
    """
    for name, md5 in expected.items():
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5:
            raise wrong_md5(folder / name, md5, digest.hexdigest())


def wrong_md5(path: Path, expected: str, found: str) -> UserError:
    """Return the error for a file whose content is not the publisher's.

    Args:
        path: The file.
        expected: The publisher's MD5 sum in hexadecimal digits.
        found: The MD5 sum of the file.

    Returns:
        The error, to be raised by the caller.
    """
    return UserError(
        f"{path} has MD5 {found}, its publisher gives {expected}",
        hint="download it again (`raynas data` shows how), or set verify=False if it is meant to "
        "differ",
    )


def once(name: str, paths: Sequence[Path], read: Callable[[], Images]) -> Images:
    """Return the images of ``read()``, called once in this process while the files stay the same.

    The last four results are kept: train and test images of two sets.

    Args:
        name: The name of the images. With the files it is the key in the memory.
        paths: The files that are read. A changed size or modification time counts as a change.
        read: The function that reads them.

    Returns:
        The images, in read-only arrays.

    Raises:
        UserError: The system refuses to read a file.
    """
    key = (name, _stamps(paths))
    with _lock:
        if key not in _memory:
            try:
                _memory[key] = frozen(read())
            except OSError as error:
                raise UserError(f"cannot read {name}: {error}") from None
            while len(_memory) > _REMEMBERED:
                _memory.popitem(last=False)
        _memory.move_to_end(key)
        return _memory[key]


def on_disk(name: str, paths: Sequence[Path], read: Callable[[], Images]) -> Images:
    """Return the images of ``read()``, or those kept by an earlier process for unchanged files.

    The images are kept in one .npz file in $RAYNAS_CACHE (default ~/.cache/raynas; ``off`` keeps
    nothing). A cache that cannot be written, or is damaged, is not an error: the images are read
    again.

    Args:
        name: The name of the images, which begins the name of the .npz file.
        paths: The files that are read. A changed size or modification time counts as a change.
        read: The function that reads them.

    Returns:
        The images.
    """
    folder = kept_folder()
    if folder is None:
        return read()
    key = hashlib.blake2b(repr(_stamps(paths)).encode(), digest_size=8).hexdigest()
    kept = folder / f"{name}-{key}.npz"
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damaged), kept.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return Images(arrays["pixels"], arrays["labels"])
    images = read()
    with contextlib.suppress(OSError):
        _write_npz(kept, images)
    return images


def _stamps(paths: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, size in bytes and time of change (ns) of each file."""
    found = ((path, path.stat()) for path in paths)
    return tuple((str(path.resolve()), s.st_size, s.st_mtime_ns) for path, s in found)


def _write_npz(path: Path, images: Images) -> None:
    """Under its name only when it is whole, so that two processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, pixels=images.pixels, labels=images.labels)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
