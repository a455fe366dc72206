"""Two writers on one storage, step by step: what seals and manifests keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raynas.store.fragment_log import EpochSeals, FragmentLog
from raynas.store.lease import TakenOver
from raynas.store.manifest import manifest_name, snapshot
from raynas.store.storage import Bytes, FileStat

SEAL = b"seal "


class Memory:
    """A storage in which something may happen before a file is created."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def read(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(2, name) from None

    def write(self, name: str, data: Bytes) -> None:
        self.files[name] = bytes(data)

    def create(self, name: str, data: Bytes) -> None:
        self.before.pop(name, lambda: None)()
        if name in self.files:
            if self.files[name] == data:
                return
            raise FileExistsError(17, name)
        self.files[name] = bytes(data)
        self.after.pop(name, lambda: None)()

    def stats(self, folder: str = "") -> dict[str, FileStat]:
        return {n: FileStat(len(d), "", 0.0) for n, d in self.files.items() if n.startswith(folder)}

    def remove(self, name: str) -> None:
        self.files.pop(name, None)

    def remove_folder(self, name: str) -> None: ...


def epoch_of(data: bytes) -> int | None:
    return int(data.removeprefix(SEAL)) if data.startswith(SEAL) else None


def log(storage: Memory, epoch: int) -> FragmentLog:
    return FragmentLog(storage, epoch, EpochSeals(SEAL + b"%d" % epoch, epoch_of), shown="here")


def begun(storage: Memory, epoch: int) -> FragmentLog:
    found = log(storage, epoch)
    found.begin()
    return found


def merge(writer: FragmentLog, storage: Memory) -> None:
    writer.merge(writer.fragments, b" ".join(rows(storage)))
    writer.clean()


def rows(storage: Memory) -> list[bytes]:
    """All that counts, in order."""
    found = [storage.read(f"results/{name}") for name in snapshot(storage).names]
    return [row for data in found if epoch_of(data) is None for row in data.split()]


def take_over(storage: Memory, epoch: int) -> Callable[[], None]:
    """Another writer comes, appends, merges, and removes what does not count any more."""

    def act() -> None:
        writer = begun(storage, epoch)
        for number in range(3):
            writer.append(b"%d.%d" % (epoch, number))
            merge(writer, storage)

    return act


MINE = [b"1.0", b"1.1", b"1.2"]
THEIRS = [b"2.0", b"2.1", b"2.2"]


def first_writer(storage: Memory) -> FragmentLog:
    writer = begun(storage, 1)
    for row in MINE:
        writer.append(row)
    return writer


def version(storage: Memory) -> int:
    manifest = snapshot(storage).manifest
    assert manifest is not None
    return manifest.version


def test_an_append_after_a_takeover_is_refused_and_does_not_count() -> None:
    storage = Memory()
    writer = first_writer(storage)
    take_over(storage, 2)()
    with pytest.raises(TakenOver):
        writer.append(b"1.3")
    with pytest.raises(TakenOver):
        writer.append(b"1.4")
    assert rows(storage) == MINE + THEIRS


def test_an_append_just_before_the_seal_counts() -> None:
    storage = Memory()
    writer = first_writer(storage)
    slot = "results/0001-00000004.parquet"
    storage.before[slot] = lambda: storage.files.update({slot: b"1.3"})
    take_over(storage, 2)()
    writer.append(b"1.3")  # it is that one
    with pytest.raises(TakenOver):
        writer.append(b"1.4")
    assert rows(storage) == [*MINE, b"1.3", *THEIRS]


@pytest.mark.parametrize("what", ["the merged fragment", "the manifest"])
def test_a_merge_that_a_takeover_interrupts_destroys_nothing(what: str) -> None:
    """When it goes on, the version that it wanted was used and removed again."""
    storage = Memory()
    writer = first_writer(storage)
    name = f"results/{manifest_name(version(storage) + 1)}"
    storage.before[name] = take_over(storage, 2)
    if what == "the merged fragment":
        storage.before.pop(name)()
    with pytest.raises(TakenOver):
        writer.merge(writer.fragments, b" ".join(MINE))
    assert rows(storage) == MINE + THEIRS
    take_over(storage, 3)()  # it removes what the first has left
    assert rows(storage) == [*MINE, *THEIRS, b"3.0", b"3.1", b"3.2"]
    assert len([n for n in storage.files if "_manifest" in n]) == 1


def test_a_takeover_just_after_a_merge_counts_its_rows_once() -> None:
    storage = Memory()
    writer = first_writer(storage)
    name = f"results/{manifest_name(version(storage) + 1)}"
    storage.after[name] = take_over(storage, 2)
    with pytest.raises(TakenOver):
        writer.merge(writer.fragments, b" ".join(MINE))
    assert rows(storage) == MINE + THEIRS


def test_a_start_that_a_later_one_overtakes_is_refused() -> None:
    """It had sealed, and slept before its manifest."""
    storage = Memory()
    first_writer(storage)
    name = f"results/{manifest_name(version(storage) + 1)}"
    storage.before[name] = take_over(storage, 3)
    with pytest.raises(TakenOver):
        begun(storage, 2)
    assert rows(storage) == [*MINE, b"3.0", b"3.1", b"3.2"]


@pytest.mark.parametrize("slot", ["results/0001-00000004.parquet", "results/0000-00000001.parquet"])
def test_a_start_that_slept_before_its_seal_is_refused(slot: str) -> None:
    storage = Memory()
    if slot.startswith("results/0001"):
        first_writer(storage)
    before = rows(storage)
    storage.before[slot] = take_over(storage, 3)
    with pytest.raises(TakenOver):
        begun(storage, 2)
    assert rows(storage) == [*before, b"3.0", b"3.1", b"3.2"]


def test_a_start_that_slept_while_its_version_was_used_and_removed_begins_again() -> None:
    storage = Memory()
    living = begun(storage, 1)
    living.append(b"1.0")

    def go_on() -> None:
        for number in range(1, 4):
            living.append(b"1.%d" % number)
            merge(living, storage)

    storage.before["results/0001-00000002.parquet"] = go_on  # where the later one puts its seal
    later = begun(storage, 2)
    later.append(b"2.0")
    with pytest.raises(TakenOver):
        living.append(b"1.4")
    assert rows(storage) == [b"1.0", b"1.1", b"1.2", b"1.3", b"2.0"]


def test_a_merge_whose_version_was_used_and_removed_is_refused() -> None:
    storage = Memory()
    woken = begun(storage, 1)
    for row in MINE:
        woken.append(row)
    version = woken.manifest.version + 1
    storage.before[f"results/{manifest_name(version)}"] = take_over(storage, 2)
    with pytest.raises(TakenOver):
        merge(woken, storage)
    assert rows(storage) == [*MINE, *THEIRS]
    assert woken.manifest.version < version


def test_seals_stay_so_that_no_earlier_writer_finds_its_slot_empty() -> None:
    storage = Memory()
    writer = first_writer(storage)
    for epoch in range(2, 6):
        take_over(storage, epoch)()
    with pytest.raises(TakenOver):
        writer.append(b"1.3")
    with pytest.raises(TakenOver):
        writer.verify()


def test_a_start_that_died_between_seal_and_manifest_is_passed_over() -> None:
    storage = Memory()
    writer = first_writer(storage)
    storage.files["results/0001-00000004.parquet"] = SEAL + b"2"
    take_over(storage, 3)()
    take_over(storage, 4)()
    with pytest.raises(TakenOver):
        writer.append(b"1.3")
    assert rows(storage)[:3] == MINE


def fails_after(storage: Memory, name: str) -> None:
    def fail() -> None:
        raise OSError(5, "timed out")

    storage.after[name] = fail


def test_an_append_whose_answer_was_lost_counts_before_the_next() -> None:
    storage = Memory()
    writer = first_writer(storage)
    fails_after(storage, "results/0001-00000004.parquet")
    with pytest.raises(OSError, match="timed out"):
        writer.append(b"1.3")
    added = writer.append(b"1.4")
    assert added == [("0001-00000004.parquet", b"1.3"), ("0001-00000005.parquet", b"1.4")]
    assert rows(storage) == [*MINE, b"1.3", b"1.4"]


def test_an_append_that_failed_leaves_its_slot_to_the_next() -> None:
    storage = Memory()
    writer = first_writer(storage)

    def fail() -> None:
        raise OSError(5, "503")

    storage.before["results/0001-00000004.parquet"] = fail
    with pytest.raises(OSError, match="503"):
        writer.append(b"1.3")
    assert writer.append(b"1.4") == [("0001-00000004.parquet", b"1.4")]
    assert rows(storage) == [*MINE, b"1.4"]


def test_a_manifest_whose_answer_was_lost_is_found_by_the_next_merge() -> None:
    storage = Memory()
    writer = first_writer(storage)
    fails_after(storage, f"results/{manifest_name(version(storage) + 1)}")
    with pytest.raises(OSError, match="timed out"):
        writer.merge(writer.fragments, b" ".join(MINE))
    writer.append(b"1.3")
    with pytest.raises(OSError, match="an earlier attempt"):
        writer.merge(writer.fragments, b" ".join(rows(storage)))
    assert rows(storage) == [*MINE, b"1.3"]
    merge(writer, storage)
    assert rows(storage) == [*MINE, b"1.3"]
    assert len(snapshot(storage).names) == 1
