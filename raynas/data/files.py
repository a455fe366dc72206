"""Data files: where they lie, whether they are whole, and remembering what was read."""

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
    """Where to look: ``folder`` only when given, else the user's own and the ``usual`` places.

    Raises: UserError for a folder of a user who does not exist (``~nobody/data``).
    """
    if folder is not None:
        return [expanded(folder)]
    return [*own_roots(), *map(Path, usual)]


def own_roots() -> list[Path]:
    """The user's data folders, the one into which ``raynas data get`` puts a set first.

    $RAYNAS_DATA when set, and ``data`` in the folder of what raynas keeps for the user
    ($RAYNAS_CACHE, default ~/.cache/raynas), where there is one.
    """
    named, kept = os.environ.get(DATA_VARIABLE), kept_folder()
    return [*([expanded(named)] if named else []), *([kept / "data"] if kept else [])]


def kept_folder() -> Path | None:
    """$RAYNAS_CACHE, default ~/.cache/raynas; None for ``off`` and for a user without a home."""
    folder = os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE
    try:
        return None if folder == "off" else Path(folder).expanduser()
    except RuntimeError:
        return None


def expanded(folder: str | Path) -> Path:
    """The folder with ``~`` replaced. Raises: UserError where that user has no home."""
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise UserError(f"folder {str(folder)!r}: no such user", cure="give its path") from None


class DataNotFound(UserError):
    """The files of a data set are in none of the usual places, and no folder was named."""


def not_found(
    what: str, looked: Sequence[Path], cure: str, folder: str | Path | None = None
) -> UserError:
    """The error for a data set that is in none of the folders; ``folder``: that the user named."""
    kind = DataNotFound if folder is None else UserError
    where = ", ".join(map(str, looked)) or f"no folder given and ${DATA_VARIABLE} not set"
    return kind(f"{what} not found (looked in: {where})", cure=cure)


def require(paths: Iterable[Path], what: str) -> None:
    """Raises: UserError naming the first of ``paths`` that is no file."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"{what}: file {path} is missing", cure="unpack the data set again")


def check_md5(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare files of ``folder`` with their sums.

    Raises: UserError naming file, expected and found sum where they differ.
    """
    for name, md5 in expected.items():
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5:
            raise wrong_md5(folder / name, md5, digest.hexdigest())


def wrong_md5(path: Path, expected: str, found: str) -> UserError:
    """The error for a file whose content is not what its publisher gave out."""
    return UserError(
        f"{path} has MD5 {found}, its publisher gives {expected}",
        cure="download it again (`raynas data` shows how), or set verify=False if it is meant to "
        "differ",
    )


def once(name: str, paths: Sequence[Path], read: Callable[[], Images]) -> Images:
    """``read()``, or what it gave before in this process for the same unchanged files."""
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
    """``read()``, or what it gave in an earlier process for the same unchanged files.

    Kept as one .npz in $RAYNAS_CACHE (default ~/.cache/raynas; ``off`` keeps nothing). A folder
    that cannot be written and a damaged file are no errors: the images are read again.
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
