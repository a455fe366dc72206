from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raynas.core import TrialState, UserError
from raynas.store import Provenance, RunFolder, Writer, local_storage, next_session, read
from raynas.store import writer as writer_module
from raynas.store.fragments import Fragment


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.results.glob("*.parquet"))


def test_a_row_comes_back_with_what_made_it(folder: RunFolder, writer: Writer, row: Any) -> None:
    before = datetime.now(UTC)
    writer.append([row(3, 1, state=TrialState.COMPLETE, latency_ms=np.float32(2), params=10)])
    (stored,) = read(folder).to_pylist()
    assert before <= stored.pop("time").replace(tzinfo=UTC) <= datetime.now(UTC)
    assert stored == {
        **row(3, 1), "state": "COMPLETE", "latency_ms": 2.0, "params": 10, "macs": None,
        "run": "digits-1", "experiment": "0123456789ab", "session": 1, "host": "a-host",
        "git": "abc", "versions": "python 3, raynas 0", "message": None, "weights": None,
        "layers": None,
    }  # fmt: skip


def test_a_given_value_beats_the_filled_one(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row(host="worker-7", time=datetime(2026, 1, 2, tzinfo=UTC))])
    assert read(folder)["host"].to_pylist() == ["worker-7"]


def test_one_append_is_one_fragment_and_names_sort_by_time(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([])
    writer.append([row(0), row(1)])
    writer.append([row(2)])
    assert names(folder) == ["0001-00000001.parquet", "0001-00000002.parquet"]
    assert pq.read_table(folder.results / names(folder)[0], partitioning=None).num_rows == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 1.0}, "unknown columns: accuracy"),
        ({"trial": None}, "'trial' is missing"),
        ({"trial": "one"}, "'trial'"),
        ({"step": 2**40}, "'step'"),
        ({"state": "DONE"}, "'state' is one of COMPLETE"),
        ({"stage": "test"}, "'stage' is one of final, search"),
        ({"arch": 5}, "'arch'"),
        ({"val_accuracy": "high"}, "'val_accuracy'"),
    ],
)
def test_a_wrong_row_is_refused_and_nothing_stored(
    folder: RunFolder, writer: Writer, row: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        writer.append([row(0), {**row(1), **change}])
    assert names(folder) == []


def test_a_missing_device_is_refused(writer: Writer, row: Any) -> None:
    lacking = {k: v for k, v in row().items() if k != "device"}
    with pytest.raises(ValueError, match="'device' is missing"):
        writer.append([lacking])


def test_a_message_that_is_not_valid_text_is_kept_readable(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(message="no file caf\udce9\n\x00")])
    assert read(folder)["message"].to_pylist() == ["no file caf\\udce9\n\x00"]


def test_nan_and_infinity_are_values(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row(val_accuracy=float("nan"), latency_ms=float("inf"))])
    table = read(folder)
    assert np.isnan(table["val_accuracy"][0].as_py())
    assert table["latency_ms"][0].as_py() == float("inf")


def test_close_merges_everything_and_gives_the_lock_back(
    folder: RunFolder, provenance: Provenance, row: Any
) -> None:
    for session in (1, 2):
        with Writer(folder, session, provenance) as writer:
            for trial in range(3):
                writer.append([row(trial, session)])
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.append([row()])
        with pytest.raises(ValueError, match="closed"):
            writer.compact()
    assert names(folder) == ["0002-00000001-00000006.parquet"]
    assert read(folder).num_rows == 6
    assert next_session(read(folder)) == 3


def test_next_session_of_an_empty_run_is_the_first(folder: RunFolder) -> None:
    assert next_session(read(folder)) == 1


def test_fragments_stay_few_and_a_row_is_rewritten_seldom(
    folder: RunFolder, provenance: Provenance, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten: list[int] = []
    merge = writer_module.join

    def counted(tables: Any, schema: Any) -> Any:
        table = merge(tables, schema)
        rewritten.append(table.num_rows)
        return table

    monkeypatch.setattr(writer_module, "join", counted)
    with Writer(folder, 1, provenance, merge_every=4) as writer:
        for i in range(160):
            writer.append([row(i)])
            assert len(names(folder)) <= 4 + 6
        assert sum(rewritten) <= 160 * 6
    assert read(folder)["trial"].to_pylist() == list(range(160))


def test_a_large_old_fragment_is_left_alone() -> None:
    def fragments(*appends: int) -> list[Fragment]:
        ends = np.cumsum(appends).tolist()
        return [Fragment(Path(), 1, e - a + 1, e) for a, e in zip(appends, ends, strict=True)]

    recent = writer_module._recent
    assert [f.appends for f in recent(fragments(100, 1, 1, 1))] == [1, 1, 1]
    assert [f.appends for f in recent(fragments(100, 6, 1, 1, 1))] == [6, 1, 1, 1]
    assert recent([]) == []


def test_the_fragments_columns_carry_units(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row()])
    for _ in range(2):
        (name,) = names(folder)
        schema = pq.read_schema(folder.results / name)
        assert schema.field("val_accuracy").metadata[b"unit"] == b"%"
        writer.append([row(1)])
        writer.compact()


# -- the lock ---------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_has_the_run(
    folder: RunFolder, writer: Writer, provenance: Provenance, row: Any
) -> None:
    with pytest.raises(UserError, match=f"being written by process {os.getpid()} on .+; wait"):
        Writer(folder, 2, provenance)
    writer.append([row()])
    assert read(folder).num_rows == 1


def _write_and_die(path: Path, provenance: Provenance, one: dict[str, Any]) -> None:
    Writer(RunFolder.open(path), 1, provenance).append([one])
    os._exit(9)


def test_a_dead_writers_lock_is_free(folder: RunFolder, provenance: Provenance, row: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_write_and_die, args=(folder.path, provenance, row(0))
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert folder.lock.read_text().startswith(f"{process.pid} ")
    with Writer(folder, 2, provenance) as writer:
        writer.append([row(1)])
    assert read(folder)["session"].to_pylist() == [1, 2]


def test_a_writer_that_cannot_start_gives_the_lock_back(
    folder: RunFolder, provenance: Provenance
) -> None:
    stranger = folder.results / "mine.parquet"
    stranger.write_text("")
    for _ in range(2):
        with pytest.raises(UserError, match=r"mine\.parquet is not a fragment of this run"):
            Writer(folder, 1, provenance)
    stranger.unlink()
    Writer(folder, 1, provenance).close()


def test_sessions_count_from_one(folder: RunFolder, provenance: Provenance) -> None:
    with pytest.raises(ValueError, match="session 0"):
        Writer(folder, 0, provenance)


def test_threads_share_a_writer(folder: RunFolder, provenance: Provenance, row: Any) -> None:
    with Writer(folder, 1, provenance, merge_every=8) as writer:
        threads = [
            threading.Thread(target=lambda t=t: [writer.append([row(t, s)]) for s in range(1, 13)])
            for t in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read(folder).num_rows == 36


# -- the disk refuses --------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "pathlib.Path.open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_a_disk_error_is_one_line_and_what_was_stored_stays(
    folder: RunFolder,
    writer: Writer,
    row: Any,
    call: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer.append([row(0)])
    held = names(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(UserError, match="every row stored before is safe") as e:
            writer.append([row(1)])
        with pytest.raises(UserError):
            writer.append([row(2)])
    assert errno.errorcode[code] in str(e.value)
    assert f"raynas resume {folder.path}" in str(e.value)
    assert "\n" not in str(e.value)
    assert names(folder) == held
    writer.append([row(3)])  # there is room again
    assert read(folder)["trial"].to_pylist() == [0, 3]


def test_a_full_disk_while_merging_loses_nothing(
    folder: RunFolder, provenance: Provenance, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = local_storage.write_whole

    def no_room_for_merged(path: Path, data: memoryview) -> None:
        if len(path.stem.split("-")) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, data)

    monkeypatch.setattr(local_storage, "write_whole", no_room_for_merged)
    with Writer(folder, 1, provenance, merge_every=4) as writer:
        for trial in range(10):
            writer.append([row(trial)])
        with pytest.raises(UserError, match="ENOSPC"):
            writer.compact()
    assert len(names(folder)) == 10
    assert read(folder).num_rows == 10
