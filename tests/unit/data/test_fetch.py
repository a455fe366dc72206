"""Fetching data sets, from a publisher on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import os
import resource
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import fake_sets as fake
import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publisher import Publisher, publishing

from raynas.core import UserError
from raynas.data import (
    CIFAR10,
    CIFAR100,
    DATASETS,
    Digits,
    FashionMNIST,
    ImageNet16,
    archives,
    fetch,
)
from raynas.data.download import fetch_file
from raynas.data.fetch import get
from raynas.data.idx import FILES
from raynas.data.source import DatasetDownload, DatasetSource, FileLayout

ARCHIVE = "cifar-100-python.tar.gz"
PART = Path(".raynas-cifar100.part", f"{ARCHIVE}.part")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own data folder; nothing but loopback is reached."""
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "data"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as made:
        yield made


def archive(*members: tuple[tarfile.TarInfo | str, bytes], packing: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=packing) as tar:  # type: ignore[call-overload]
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a small CIFAR-100."""
    folder = fake.write_cifar100(tmp_path_factory.mktemp("made")) / "cifar-100-python"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def packed(batches: dict[str, bytes]) -> bytes:
    return archive(*((f"cifar-100-python/{name}", content) for name, content in batches.items()))


@pytest.fixture
def source(publisher: Publisher, batches: dict[str, bytes], packed: bytes) -> DatasetSource:
    """CIFAR-100 as that publisher gives it out."""
    publisher.files[ARCHIVE] = packed
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}
    own, other = CIFAR100.source.layouts
    layouts = (dataclasses.replace(own, md5=md5), other)
    return dataclasses.replace(publisher.source(CIFAR100.source), layouts=layouts)


def there(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


WHOLE = ["cifar-100-python/test", "cifar-100-python/train"]


# -- whole ---------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_and_then_simply_found(source: DatasetSource, home: Path) -> None:
    got = get(source)
    assert got.fetched
    assert got.found.place == home / "cifar-100-python"
    assert there(home) == WHOLE
    assert [p.name for p in home.iterdir()] == ["cifar-100-python"]  # nothing hidden beside it
    assert len(CIFAR100(verify=False).load("train")) == 400


def test_files_that_are_no_archive_come_together(publisher: Publisher, tmp_path: Path) -> None:
    folder = fake.write_idx(tmp_path / "made")
    publisher.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    real = FashionMNIST.source
    source = dataclasses.replace(
        publisher.source(real), layouts=(FileLayout("IDX files", real.layouts[0].files),)
    )
    got = get(source, tmp_path / "data")
    assert got.found.place == tmp_path / "data" / "fashion-mnist"
    assert there(tmp_path / "data") == sorted(f"fashion-mnist/{n}" for n in publisher.files)
    assert len(FashionMNIST(tmp_path / "data", verify=False).load("train")) == 200
    assert not get(source, tmp_path / "data").fetched
    assert len(publisher.asked) == 4


@pytest.mark.parametrize("how", ["relative", "link"])
def test_a_folder_by_another_path(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    publisher.files = dict.fromkeys((f"{name}.gz" for name in FILES), b"content")
    layouts = (FileLayout("IDX files", FILES),)
    source = dataclasses.replace(publisher.source(FashionMNIST.source), layouts=layouts)
    assert get(source, Path() if how == "relative" else tmp_path / "link").fetched
    assert there(tmp_path / "real") == sorted(f"fashion-mnist/{n}" for n in publisher.files)


def test_what_is_there_is_not_fetched(source: DatasetSource, publisher: Publisher) -> None:
    get(source)
    publisher.asked.clear()
    assert not get(source).fetched
    assert publisher.asked == []


def test_the_users_folder_goes_before_that_of_raynas(
    source: DatasetSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_DATA", str(tmp_path / "own"))
    assert get(source).found.place == tmp_path / "own" / "cifar-100-python"


def test_a_folder_that_is_given_is_the_only_one_that_is_looked_into(
    source: DatasetSource, tmp_path: Path
) -> None:
    get(source)
    got = get(source, tmp_path / "other")
    assert got.fetched
    assert got.found.place == tmp_path / "other" / "cifar-100-python"


def test_progress_is_told_from_nothing_to_all(source: DatasetSource, publisher: Publisher) -> None:
    heard: list[tuple[str, int, int]] = []
    get(source, told=lambda *now: heard.append(now))
    size = len(publisher.files[ARCHIVE])
    assert heard[0] == (ARCHIVE, 0, size)
    assert heard[-1] == (ARCHIVE, size, size)
    assert heard == sorted(heard)


def test_a_set_in_a_package_is_there(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        got = get(Digits.source, folder)
        assert (got.found.place.name, got.fetched) == ("sklearn", False)


def test_a_set_that_nobody_gives_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raynas cannot download it.*Google Drive") as info:
        get(ImageNet16.source, tmp_path)
    assert "ImageNet16.tar.gz" in line(info)
    assert there(tmp_path) == []


# -- broken off ----------------------------------------------------------------------------------


def test_one_that_broke_off_goes_on_where_it_stopped(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    size = len(publisher.files[ARCHIVE])
    publisher.breaks = [1000, 0]
    with pytest.raises(UserError, match=rf"was interrupted after 1,000 of {size:,} bytes") as info:
        get(source)
    assert "the same command continues the download" in line(info)
    assert there(home) == [str(PART)]
    assert get(source).fetched
    assert publisher.asked == [(ARCHIVE, r) for r in (None, "bytes=1000-", "bytes=1000-")]
    assert publisher.sent == size
    assert there(home) == WHOLE


def test_it_connects_again_while_that_brings_more(
    source: DatasetSource, publisher: Publisher
) -> None:
    publisher.breaks = [1000, 500, 1]
    assert get(source).fetched
    assert [r for _, r in publisher.asked] == [None, "bytes=1000-", "bytes=1500-", "bytes=1501-"]
    assert publisher.sent == len(publisher.files[ARCHIVE])


def test_a_close_without_a_length_is_a_break_too(
    source: DatasetSource, publisher: Publisher
) -> None:
    publisher.lengths, publisher.breaks = False, [1000, 0]
    with pytest.raises(UserError, match=r"was interrupted after 1,000 .*the connection was closed"):
        get(source)
    assert get(source).fetched
    assert publisher.sent == len(publisher.files[ARCHIVE])


def test_a_publisher_that_cannot_go_on_begins_again(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    publisher.ranges, publisher.breaks = False, [1000, 700]
    with pytest.raises(UserError, match="was interrupted after 700"):
        get(source)
    assert get(source).fetched
    assert publisher.sent == 1700 + len(publisher.files[ARCHIVE])
    assert there(home) == WHOLE


def test_what_another_file_left_is_fetched_anew(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    (home / PART).parent.mkdir(parents=True)
    (home / PART).write_bytes(b"x" * 1000)
    assert get(source).fetched
    assert [r for _, r in publisher.asked] == ["bytes=1000-", None]
    assert there(home) == WHOLE


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_part_about_as_long_as_the_file(
    source: DatasetSource, publisher: Publisher, home: Path, more: int
) -> None:
    content = publisher.files[ARCHIVE]
    (home / PART).parent.mkdir(parents=True)
    (home / PART).write_bytes((content + b"x")[: len(content) + more])
    assert get(source).fetched
    expected = {-1: [f"bytes={len(content) - 1}-"], 0: [], 1: [None]}[more]
    assert [r for _, r in publisher.asked] == expected


def test_another_range_than_the_asked_one(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    publisher.breaks, publisher.shift = [1000], 0
    publisher.before = lambda: setattr(publisher, "shift", 5 if len(publisher.asked) > 1 else 0)
    with pytest.raises(UserError, match=r"other bytes than those requested; remove .*part") as info:
        get(source)
    assert str(home / PART) in line(info)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(breaks=st.lists(st.integers(0, 300), max_size=8), ranges=st.booleans())
def test_wherever_it_breaks_the_file_is_whole_in_the_end(
    publisher: Publisher, tmp_path: Path, breaks: list[int], ranges: bool
) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = np.random.default_rng(0).bytes(1000)
    publisher.files, publisher.sent = {"f": content}, 0
    publisher.breaks, publisher.ranges = [*breaks], ranges
    path = None
    for _ in range(len(breaks) + 1):
        with contextlib.suppress(UserError):
            path = fetch_file(publisher.file("f"), folder, folder / "f.part")
            break
        assert there(folder) in ([], ["f.part"])
    assert path is not None
    assert path.read_bytes() == content
    assert there(folder) == ["f"]
    if ranges:
        assert publisher.sent == len(content)


# -- something else than the file ----------------------------------------------------------------


def test_wrong_bytes_are_not_kept(source: DatasetSource, publisher: Publisher, home: Path) -> None:
    content = publisher.files[ARCHIVE]
    publisher.files[ARCHIVE] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(UserError, match="has another MD5 sum; it is not kept") as info:
        get(source)
    assert hashlib.md5(content).hexdigest() in line(info)
    assert there(home) == []
    publisher.files[ARCHIVE] = content
    assert get(source).fetched


@pytest.mark.parametrize("lengths", [True, False])
def test_too_many_bytes_are_not_read(
    source: DatasetSource, publisher: Publisher, home: Path, lengths: bool
) -> None:
    publisher.lengths = lengths
    publisher.files[ARCHIVE] += b"more" * 100_000
    with pytest.raises(UserError, match=r"is not the file that is known: it has (more than )?\d"):
        get(source)
    assert there(home) == []


def test_too_few_bytes_are_told_before_they_are_read(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    publisher.files[ARCHIVE] = publisher.files[ARCHIVE][:-100]
    with pytest.raises(UserError, match=r"is not the file that is known: it has [\d,]+ bytes"):
        get(source)
    assert there(home) == []


def test_a_file_that_became_shorter_than_the_part(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    publisher.breaks = [1000, 0]
    with pytest.raises(UserError):
        get(source)
    publisher.files[ARCHIVE] = b"short"
    with pytest.raises(UserError, match="less than 1,000 bytes"):
        get(source)
    assert there(home) == []


@pytest.mark.parametrize(
    ("status", "text"), [(404, "404 Not Found"), (500, "500 Internal"), (403, "403")]
)
def test_refusals_of_the_publisher(
    source: DatasetSource, publisher: Publisher, home: Path, status: int, text: str
) -> None:
    publisher.status = status
    with pytest.raises(UserError, match=f"{ARCHIVE} answers: {text}") as info:
        get(source)
    assert "$RAYNAS_DATA" in line(info)
    assert there(home) == []
    assert list(home.iterdir()) == []


# -- no connection -------------------------------------------------------------------------------


def test_refused_connection(source: DatasetSource, home: Path) -> None:
    assert source.download is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (file,) = source.download.files
    nobody = dataclasses.replace(file, url=f"http://127.0.0.1:{port}/{ARCHIVE}")
    download = dataclasses.replace(source.download, files=(nobody,))
    with pytest.raises(UserError, match=r"cannot fetch http.*: Connection refused; check") as info:
        get(dataclasses.replace(source, download=download))
    line(info)
    assert list(home.iterdir()) == []


def test_no_network(source: DatasetSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match="the name of its server cannot be resolved") as info:
        get(source)
    line(info)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (requests.ConnectTimeout("no"), "no answer within 30 s"),
        (requests.exceptions.SSLError("certificate verify failed"), "certificate verify failed"),
        (requests.TooManyRedirects("Exceeded 30 redirects."), "Exceeded 30 redirects"),
        (requests.exceptions.InvalidSchema("No connection adapters"), "No connection adapters"),
    ],
)
def test_other_failures_of_a_connection(
    source: DatasetSource, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(requests, "get", fail)
    with pytest.raises(UserError, match=f"cannot fetch .*{text}") as info:
        get(source)
    line(info)


# -- folders and disks ---------------------------------------------------------------------------


def test_a_file_where_a_folder_should_be(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    home.parent.mkdir(parents=True)
    home.write_bytes(b"")
    for folder in (None, home, home / "below"):
        with pytest.raises(UserError, match=r"cannot use .*data.*--folder DIR") as info:
            get(source, folder)
        line(info)
    home.unlink()
    home.mkdir()
    (home / "cifar-100-python").write_bytes(b"")
    with pytest.raises(UserError, match="cifar-100-python is not a folder; move it away"):
        get(source)
    assert publisher.asked == []  # all is told before anything is fetched


def test_a_folder_that_may_not_be_written(
    source: DatasetSource, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(UserError, match=r"cannot use .*: Permission denied; give another") as info:
        get(source, tmp_path / "data")
    assert str(tmp_path / "data") in line(info)
    assert publisher.asked == []


def test_a_user_who_is_not_known(source: DatasetSource) -> None:
    with pytest.raises(UserError, match="'~no-such-user/data': no such user"):
        get(source, "~no-such-user/data")


@pytest.mark.parametrize("cache", ["off", "~no-such-user/cache"])
def test_a_user_for_whom_raynas_keeps_nothing(
    source: DatasetSource, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", cache)
    with pytest.raises(UserError, match=r"not set.*; raynas data get cifar100 --folder DIR"):
        get(source)
    assert publisher.asked == []
    with pytest.raises(UserError, match=r"no folder given and .RAYNAS_DATA not set"):
        CIFAR100().search_view(0)


def test_a_disk_without_room_is_told_before(
    source: DatasetSource, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files[ARCHIVE] = b"small"
    source = publisher.source(source)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=199_000_000))
    with pytest.raises(UserError, match=r"has 199 MB free, but 200 MB are needed") as info:
        get(source, tmp_path / "data")
    assert "--folder DIR" in line(info)
    assert publisher.asked == []


def test_a_file_that_cannot_grow_goes_on_later(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    """The limit of the system stands for a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot use .*: File too large; make room") as info:
            get(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "raynas data get cifar100, which continues the download" in line(info)
    assert (home / PART).stat().st_size == 5000
    assert get(source).fetched
    assert [r for _, r in publisher.asked] == [None, "bytes=5000-"]


def test_a_disk_that_becomes_full_while_unpacking(
    source: DatasetSource, publisher: Publisher, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: tarfile.TarFile, member: tarfile.TarInfo, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), member.name)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", full)
        with pytest.raises(UserError, match="No space left on device; make room"):
            get(source)
    assert not (home / "cifar-100-python").exists()
    publisher.asked.clear()
    assert get(source).fetched
    assert publisher.asked == []  # the archive was whole


# -- interrupted ---------------------------------------------------------------------------------


def test_ctrl_c_leaves_a_part_to_go_on_with(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    def press(_name: str, done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(source, told=press)
    done = (home / PART).stat().st_size
    assert 0 < done < len(publisher.files[ARCHIVE])
    assert there(home) == [str(PART)]
    assert get(source).fetched
    assert publisher.asked[-1] == (ARCHIVE, f"bytes={done}-")
    assert there(home) == WHOLE


def test_ctrl_c_while_unpacking_leaves_no_half_set(
    source: DatasetSource, publisher: Publisher, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract, seen = tarfile.TarFile.extract, []

    def press(self: tarfile.TarFile, member: tarfile.TarInfo, to: Path, filter: str) -> None:
        seen.append(member.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        extract(self, member, to, filter=filter)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", press)
        with pytest.raises(KeyboardInterrupt):
            get(source)
    assert CIFAR100.source.find() is None
    assert get(source).fetched
    assert len(publisher.asked) == 1
    assert there(home) == WHOLE


# -- archives that are not what they should be ---------------------------------------------------


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


IN = "cifar-100-python/"
TRAIN = "holds 'cifar-100-python/train'"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (archive(("../outside", b"x")), "holds '../outside'"),
        (archive(("cifar-100-python/../../outside", b"x")), "holds 'cifar-100-python/../../"),
        (archive(("/tmp/outside", b"x")), "holds '/tmp/outside'"),
        (archive(("elsewhere/train", b"x")), "holds 'elsewhere/train'"),
        (archive(("cifar-100-python", b"x")), "holds 'cifar-100-python'"),
        (archive((special(IN + "train", tarfile.SYMTYPE, "/etc/passwd"), b"")), TRAIN),
        (archive((special(IN + "train", tarfile.LNKTYPE, "/etc/passwd"), b"")), TRAIN),
        (archive((special(IN + "train", tarfile.CHRTYPE), b"")), TRAIN),
        (archive((special(IN + "train", tarfile.FIFOTYPE), b"")), TRAIN),
        (archive((IN + "\x1b[31m", b"x"), ("\x1b]0;title\x07", b"")), r"holds '\x1b]0;"),
        (archive(("cifar-100-python/train", bytes(200_000))), "holds more than 100 kB"),
        (archive(*((f"cifar-100-python/{i}", b"") for i in range(1001))), "holds more than"),
        (archive(("cifar-100-python/train", b"x")), "has no test"),
        (archive(*((f"cifar-100-python/{n}", b"x") for n in ("train", "test"))), "has another t"),
        (b"no archive at all", "is damaged"),
        (b"\x1f\x8b no gzip", "is damaged"),
        (archive(("cifar-100-python/train", bytes(90_000)))[:-40], "is damaged"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(
    source: DatasetSource, publisher: Publisher, home: Path, content: bytes, text: str
) -> None:
    publisher.files[ARCHIVE] = content
    changed = dataclasses.replace(
        source, download=publisher.source(source, unpacked=100_000).download
    )
    with pytest.raises(UserError) as info:
        get(changed)
    assert text in line(info).replace("\\\\", "\\")
    assert "nothing of it is kept" in line(info)
    assert "\x1b" not in line(info)
    assert there(home.parent.parent) == []
    assert not Path("/tmp/outside").exists()


SEEDS = tuple(
    archive(
        (IN + "train", b"a" * 700), (IN + "test", b"b" * 300), (IN + "x" * 150, b"c"), packing=p
    )
    for p in ("w", "w:gz")
)


def summed(content: bytearray) -> bytes:
    """With the sums of headers put right, so that what is wrong in them is read."""
    for start in range(0, len(content) - 511, 512):
        header = content[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(content)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=9)), max_size=3
    ),
    cut=st.one_of(st.none(), st.integers(1, 4095)),
)
def test_a_mutated_archive_is_a_line_and_gets_nowhere_else(
    tmp_path: Path, seed: bytes, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    content = bytearray(seed)
    for place, new in changes:
        place %= len(content)
        content[place : place + len(new)] = new
    folder = tmp_path / "mutated"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "archive").write_bytes(summed(content[:cut]))
    known = DatasetDownload("nobody", (), IN.rstrip("/"), unpacked=100_000)
    with contextlib.suppress(UserError):
        archives.unpack([folder / "archive"], folder / "out", known)
    assert {p.name for p in tmp_path.iterdir()} <= {"mutated"}
    assert {p.name for p in folder.iterdir()} == {"archive", "out"}
    assert {p.name for p in (folder / "out").iterdir()} <= {IN.rstrip("/")}
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("header", [b"99999999999", b"77777777777"])
def test_headers_that_ask_for_too_much(tmp_path: Path, header: bytes) -> None:
    """A name of 2 ** 80 bytes, or 8 GB: both are beyond the archive."""
    content = bytearray(archive((special(IN + "train", tarfile.XHDTYPE), b"x" * 10), packing="w"))
    sizes = {b"9": b"\x80" + (2**80).to_bytes(11, "big"), b"7": header + b"\0"}
    content[124:136] = sizes[header[:1]]
    (tmp_path / "archive").write_bytes(summed(content))
    known = DatasetDownload("nobody", (), IN.rstrip("/"), unpacked=100_000)
    with pytest.raises(UserError, match="nothing of it is kept"):
        archives.unpack([tmp_path / "archive"], tmp_path / "out", known)


def test_an_archive_may_name_its_folder(
    source: DatasetSource, publisher: Publisher, batches: dict[str, bytes], home: Path
) -> None:
    folder = special("./cifar-100-python/", tarfile.DIRTYPE)
    named = [(f"./cifar-100-python/{n}", b) for n, b in batches.items()]
    publisher.files[ARCHIVE] = archive((folder, b""), *named)
    changed = dataclasses.replace(source, download=publisher.source(source).download)
    assert get(changed).fetched
    assert there(home) == WHOLE


# -- what lies there already ---------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_an_incomplete_or_damaged_set_is_mended_in_its_place(
    source: DatasetSource, batches: dict[str, bytes], home: Path, content: bytes | None
) -> None:
    place = get(source).found.place
    (place / "mine").write_bytes(b"of the user")
    (place / "test").unlink()
    if content is not None:
        (place / "test").write_bytes(content)
    assert get(source).fetched
    assert (place / "test").read_bytes() == batches["test"]
    assert there(home) == ["cifar-100-python/mine", *WHOLE]


def test_a_damaged_set_elsewhere_is_named_and_left_alone(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    get(source)
    publisher.asked.clear()
    shutil.move(home / "cifar-100-python", home / "cifar100")
    (home / "cifar100" / "train").write_bytes(b"damaged")
    with pytest.raises(
        UserError,
        match=r"train differs from the file that the publisher of CIFAR-100 gives.*move it away",
    ):
        get(source)
    assert publisher.asked == []
    assert there(home) == ["cifar100/test", "cifar100/train"]


def test_an_incomplete_set_does_not_hide_a_whole_one(source: DatasetSource, home: Path) -> None:
    get(source)
    (home / "test").write_bytes(b"what some user calls so")
    found = source.find()
    assert found is not None
    assert (found.place, found.missing) == (home / "cifar-100-python", ())
    assert len(CIFAR100(verify=False).load("test")) == 100


def test_a_missing_file_names_the_command(source: DatasetSource) -> None:
    (get(source).found.place / "test").unlink()
    with pytest.raises(UserError, match="test is missing; `raynas data get cifar100`, or unpack"):
        CIFAR100().search_view(0)


def test_a_gzipped_file_is_compared_unpacked(tmp_path: Path) -> None:
    fake.write_idx(tmp_path / "zipped")
    fake.write_idx(tmp_path / "plain", zipped=False)
    files = (tmp_path / "plain").iterdir()
    plain = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    layout = FileLayout("IDX files", tuple(plain), plain)
    for name in ("zipped", "plain"):
        assert layout.missing(tmp_path / name) == ()
        assert layout.damaged(tmp_path / name) is None
    cut = next((tmp_path / "zipped").iterdir())
    cut.write_bytes(cut.read_bytes()[:-9])
    assert layout.damaged(tmp_path / "zipped") == cut


# -- two at once ---------------------------------------------------------------------------------


def test_the_second_of_two_waits_and_finds_it(
    source: DatasetSource, publisher: Publisher, home: Path
) -> None:
    asked, waits = threading.Event(), threading.Event()

    def before() -> None:
        asked.set()
        assert waits.wait(60)

    publisher.before = before
    got: list[fetch.FetchedDataset] = []
    first = threading.Thread(target=lambda: got.append(get(source)))
    first.start()
    assert asked.wait(60)
    second = get(source, waiting=waits.set)
    first.join()
    assert (got[0].fetched, second.fetched) == (True, False)
    assert len(publisher.asked) == 1
    assert there(home) == WHOLE


def test_a_file_system_without_locks(
    source: DatasetSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    assert get(source).fetched


# -- what is known of the real sets --------------------------------------------------------------

SOURCES = {s.name: s for s in (part.source for part in DATASETS.values()) if s is not None}


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_what_is_fetched_is_what_is_looked_for(name: str) -> None:
    source = SOURCES[name]
    assert source.download is not None
    assert source.download.folder in source.below  # found without a further word
    assert all(len(bytes.fromhex(f.md5)) == 16 and f.size > 0 for f in source.download.files)
    names = {f.name.removesuffix(".gz") for f in source.download.files}
    assert source.download.unpacked > source.download.size or names == {*source.layouts[0].files}


def test_sets_are_called_as_their_classes_are() -> None:
    assert {name: DATASETS[name].source for name in SOURCES} == SOURCES


def test_the_command_can_be_typed_as_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raynas data get cifar10 --folder '.*a b'` fetches it"):
        CIFAR10(tmp_path / "a b").search_view(0)
