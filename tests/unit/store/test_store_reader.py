from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raynas.core import Measurement, TrialState, UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, manifest, read, schema_for, trials
from raynas.store import reader as reader_module
from raynas.store.fragments import list_fragments, name_for
from raynas.store.local_storage import LocalStorage
from raynas.store.schema import VERSION_KEY
from raynas.store.storage import FileStat


def pairs(table: pa.Table) -> list[tuple[int, int | None]]:
    return list(zip(table["trial"].to_pylist(), table["step"].to_pylist(), strict=True))


def test_an_empty_run_is_an_empty_table_with_all_columns(folder: RunFolder) -> None:
    assert read(folder).schema.equals(schema_for(folder.info.metrics), check_metadata=True)
    assert trials(read(folder)) == []
    folder.results.rmdir()
    assert read(folder).num_rows == 0


def test_rows_are_sorted_and_the_end_comes_last(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(1, None, state="STOPPED"), row(1, 2), row(0, 1)])
    writer.append([row(1, 1)])
    assert pairs(read(folder)) == [(0, 1), (1, 1), (1, 2), (1, None)]


def test_of_rows_measured_twice_the_last_attempt_counts(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1, attempt=1, val_accuracy=2.0)])
    writer.append([row(0, 1, attempt=0, val_accuracy=1.0)])  # a late word of a dead worker
    writer.append([row(0, 2, val_accuracy=3.0), row(0, 2, val_accuracy=4.0)])
    writer.append([row(0, None, state="FAILED", message=m) for m in "ab"])
    writer.append([row(0, 3, attempt=5), row(0, 3, attempt=0, session=2, val_accuracy=5.0)])
    table = read(folder)
    assert pairs(table) == [(0, 1), (0, 2), (0, 3), (0, None)]
    assert table["val_accuracy"].to_pylist() == [2.0, 4.0, 5.0, None]
    assert table["message"].to_pylist()[-1] == "b"


def test_temporary_and_replaced_files_do_not_count_and_the_next_writer_removes_them(
    folder: RunFolder, provenance: Provenance, row: Any
) -> None:
    with Writer(folder, 1, provenance) as writer:
        for trial in range(3):
            writer.append([row(trial)])
        kept = {p.name: p.read_bytes() for p in folder.results.glob("*.parquet")}
    for name, data in kept.items():
        (folder.results / name).write_bytes(data)  # as after a crash before their removal
    (folder.results / ".tmp-1-0001-00000009").write_bytes(b"PAR1 half")
    assert len(list(folder.results.iterdir())) == 6
    assert pairs(read(folder)) == [(0, 1), (1, 1), (2, 1)]
    Writer(folder, 2, provenance).close()
    assert sorted(p.name for p in folder.results.iterdir()) == [
        "0001-00000001-00000003.parquet",
        "_manifest-00000003.json",
    ]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flip", "foreign"])
def test_a_torn_fragment_is_named_with_the_cure_and_the_cure_works(
    folder: RunFolder, provenance: Provenance, row: Any, damage: str
) -> None:
    writer = Writer(folder, 1, provenance)
    writer.append([row(0)])
    writer.append([row(1)])
    torn = folder.results / "0001-00000002.parquet"
    data = bytearray(torn.read_bytes())
    if damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), torn)
    else:
        data[data.index(b"arch 1") + 5] = ord("2")  # still well-formed: only a checksum can tell
        torn.write_bytes(
            {"cut": data[: len(data) // 2], "empty": b"", "text": b"x" * 99, "flip": data}[damage]
        )
    with pytest.raises(UserError, match=rf"{torn} is torn.*mv {torn}.*resume") as e:
        read(folder)
    assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="is torn"):
        writer.compact()
    writer.append([row(2)])  # a torn neighbour does not stop the writer
    writer.close()
    torn.rename(f"{torn}.torn")
    assert pairs(read(folder)) == [(0, 1), (2, 1)]
    with Writer(folder, 2, provenance) as again:
        again.append([row(1)])
    assert pairs(read(folder)) == [(0, 1), (1, 1), (2, 1)]


def test_a_fragment_of_a_newer_schema_asks_for_an_upgrade(folder: RunFolder) -> None:
    table = schema_for([]).empty_table().replace_schema_metadata({VERSION_KEY: b"2"})
    pq.write_table(table, folder.results / name_for(1, 1))
    with pytest.raises(UserError, match=r"version 2; expected: up to 1; .*upgrade raynas"):
        read(folder)


def test_a_metric_that_came_or_went_between_sessions(
    folder: RunFolder, writer: Writer, provenance: Provenance, row: Any
) -> None:
    writer.append([row(0)])
    old = read(folder).drop_columns(["latency_ms"]).append_column("recall", pa.array([0.5]))
    old = old.replace_schema_metadata(schema_for([]).metadata)
    pq.write_table(old.set_column(5, "trial", pa.array([1])), folder.results / name_for(1, 2))
    table = read(folder)
    assert table.column_names[-3:] == ["val_accuracy", "latency_ms", "recall"]
    assert trials(table)[1].measurements == (
        Measurement(1, {"val_accuracy": 10.0, "recall": 0.5}, 0.5),
    )
    wrong = old.set_column(old.column_names.index("recall"), "recall", pa.array(["much"]))
    pq.write_table(wrong, folder.results / name_for(1, 3))
    writer.close()
    with Writer(folder, 2, provenance) as again:
        for fails in (lambda: read(folder), again.compact):
            with pytest.raises(UserError, match="column 'recall' is of type string, not double"):
                fails()
    (folder.results / name_for(1, 3)).rename(folder.results / f"{name_for(1, 3)}.torn")
    with Writer(folder, 3, provenance) as again:
        again.compact()
    assert len(list(folder.results.glob("*.parquet"))) == 1
    assert read(folder).equals(table, check_metadata=True)


def test_a_fragment_that_vanishes_is_looked_for_again(
    folder: RunFolder, writer: Writer, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in range(4):
        writer.append([row(trial)])
    plain, calls = reader_module.read_fragment, []

    def compacts_meanwhile(path: Path) -> pa.Table:
        calls.append(path)
        if len(calls) == 2:
            writer.compact()
        return plain(path)

    monkeypatch.setattr(reader_module, "read_fragment", compacts_meanwhile)
    assert read(folder).num_rows == 4
    assert len(calls) == 3


def test_a_fragment_that_vanishes_for_ever_is_an_error(
    folder: RunFolder, writer: Writer, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in range(3):
        writer.append([row(trial)])
    monkeypatch.setattr(manifest, "_TRIES", 3)
    (folder.results / name_for(1, 2)).unlink()  # an open slot
    told = r"fragment 0001-00000002.parquet is missing.*try again in a moment"
    with pytest.raises(UserError, match=told):
        read(folder)
    (folder.results / f"{name_for(1, 2)}.torn").touch()  # the hint
    assert pairs(read(folder)) == [(0, 1), (2, 1)]


def test_a_merged_fragment_that_vanishes_is_an_error_and_not_a_short_table(
    folder: RunFolder, writer: Writer, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in range(3):
        writer.append([row(trial)])
    writer.compact()
    monkeypatch.setattr(manifest, "_TRIES", 3)
    (folder.results / name_for(1, 1, 3)).unlink()
    with pytest.raises(UserError, match=r"0001-00000001-00000003.parquet in .* is missing"):
        read(folder)


@pytest.mark.parametrize(
    "missed",
    [["0001-00000003.parquet"], [], ["_manifest-00000001.json"], ["0001-00000001.parquet"]],
)
def test_an_old_listing_costs_no_row(
    folder: RunFolder,
    writer: Writer,
    row: Any,
    missed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lacks what a merge and an append brought, and has what the merge removed."""
    for trial in range(3):
        writer.append([row(trial)])
    writer.compact()
    writer.append([row(3)])
    plain, answers = LocalStorage.stats, [{f"results/{n}": FileStat(1, "", 0.0) for n in missed}]

    def old(storage: LocalStorage, name: str = "") -> dict[str, FileStat]:
        return answers.pop() if answers else plain(storage, name)

    monkeypatch.setattr(LocalStorage, "stats", old)
    counted, _ = list_fragments(folder.results)
    assert [f.path.name for f in counted] == [
        "0001-00000001-00000003.parquet",
        "0001-00000004.parquet",
    ]


# -- trials ------------------------------------------------------------------------------------


def test_trials_carry_identity_state_and_curve(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row(0, 1, params=10, macs=20), row(0, 2, latency_ms=3.0, weights="w1")])
    writer.append([row(0, None, state="STOPPED", message="below the rung", seconds=0.0)])
    writer.append([row(5, None, state="INFEASIBLE", message="params <= 9", params=11)])
    first, second = trials(read(folder))
    assert (first.number, first.arch, first.proposal) == (0, "arch 0", "asked 0")
    assert (first.arch_id, first.seed, first.arm, first.stage) == ("0" * 12, 7, "random", "search")
    assert (first.state, first.message, first.step) == (TrialState.STOPPED, "below the rung", 2)
    assert first.measurements == (
        Measurement(1, {"val_accuracy": 10.0}, 0.5),
        Measurement(2, {"val_accuracy": 20.0, "latency_ms": 3.0}, 0.5),
    )
    assert first.last == first.measurements[1]
    assert first.costs == {"params": 10, "macs": 20}
    assert first.seconds == 1.0
    assert (second.number, second.state, second.measurements) == (5, TrialState.INFEASIBLE, ())
    assert (second.costs, second.step, second.last) == ({"params": 11}, 0, None)


def test_the_layers_of_a_network_are_a_cost(writer: Writer, folder: RunFolder, row: Any) -> None:
    writer.append([row(0, 1, params=10, macs=20, layers=18), row(1, 1, params=10, macs=20)])
    counted, uncounted = trials(read(folder))
    assert counted.costs == {"params": 10, "macs": 20, "layers": 18}
    assert (uncounted.layers, uncounted.costs) == (None, {"params": 10, "macs": 20})


def test_fragments_without_a_column_of_layers_are_read(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1, params=10)])
    (fragment,), _ = list_fragments(folder.results)
    old = pq.read_table(fragment.path)
    pq.write_table(old.drop_columns(["layers"]), fragment.path)
    writer.append([row(1, 1, layers=3)])
    assert [t.layers for t in trials(read(folder))] == [None, 3]
    writer.compact()
    assert [t.layers for t in trials(read(folder))] == [None, 3]


def test_a_trial_that_went_on_after_its_end_is_running_again(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1), row(0, None, state="FAILED", message="worker died")])
    assert trials(read(folder))[0].state is TrialState.FAILED
    writer.append([row(0, 2, attempt=1)])
    (trial,) = trials(read(folder))
    assert (trial.state, trial.message, trial.attempt) == (TrialState.RUNNING, "", 1)
    writer.append([row(0, 3, state="COMPLETE", session=2)])
    (trial,) = trials(read(folder))
    assert (trial.state, trial.session, trial.step) == (TrialState.COMPLETE, 2, 3)


def test_an_attempt_without_enough_memory_counts_until_the_next_one(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1), row(0, None, state="RUNNING", message="out of memory")])
    writer.append([row(1, None, state="FAILED", message="crash")])
    (trial, _) = trials(read(folder))
    assert (trial.state, trial.message, trial.attempt) == (TrialState.RUNNING, "out of memory", 0)
    writer.append([row(0, 2, attempt=1, state="COMPLETE")])
    (trial, _) = trials(read(folder))
    assert (trial.state, trial.message, trial.attempt) == (TrialState.COMPLETE, "", 1)
    assert pairs(read(folder)) == [(0, 1), (0, 2), (1, None)]


def test_nan_is_a_value_and_null_is_none(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row(0, 1, val_accuracy=float("nan"))])
    (measurement,) = trials(read(folder))[0].measurements
    assert measurement.bad_values(["val_accuracy", "latency_ms"]) == ["val_accuracy", "latency_ms"]
    assert list(measurement.values) == ["val_accuracy"]


def test_trials_of_a_selection_and_of_unsorted_rows(
    folder: RunFolder, writer: Writer, row: Any
) -> None:
    writer.append([row(0, 1), row(1, 1), row(2, 1)])
    table = read(folder)
    assert [t.number for t in trials(table.take([0, 2]))] == [0, 2]
    with pytest.raises(ValueError, match="sorted"):
        trials(table.take([2, 0]))


def test_a_run_without_metrics(tmp_path: Path, info: RunInfo, provenance: Provenance) -> None:
    folder = RunFolder.create(tmp_path / "a", dataclasses.replace(info, metrics=()), "")
    row = {
        "stage": "final", "arm": "a", "trial": 0, "attempt": 0, "arch_id": "", "arch": "",
        "proposal": "", "seed": 0, "step": 1, "state": "COMPLETE", "seconds": 1.0, "device": "",
    }  # fmt: skip
    with Writer(folder, 1, provenance) as writer:
        writer.append([row])
    assert trials(read(folder))[0].measurements == (Measurement(1, {}, 1.0),)


def test_a_hundred_thousand_rows(folder: RunFolder, writer: Writer, row: Any) -> None:
    writer.append([row(i // 10, i % 10 + 1) for i in range(100_000)])
    found = trials(read(folder))
    assert len(found) == 10_000
    assert {len(t.measurements) for t in found} == {10}


# -- random histories --------------------------------------------------------------------------

row_keys = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(1, 3)), st.integers(0, 2))
actions = st.lists(
    st.one_of(
        st.lists(row_keys, min_size=1, max_size=4),
        st.sampled_from(["compact", "restart", "crashed compaction"]),
    ),
    max_size=12,
)


def expected(history: list[dict[str, Any]]) -> list[tuple[int, int | None, float]]:
    """The rule in its plainest form: of the rows in order, the greatest wins, ties to the later;
    how an attempt ended counts as long as it was the last one."""
    best: dict[tuple[int, float], dict[str, Any]] = {}
    for row in history:
        key = (row["trial"], row["step"] or np.inf)
        old = best.get(key)
        if old is None or (row["session"], row["attempt"]) >= (old["session"], old["attempt"]):
            best[key] = row
    for key, row in list(best.items()):
        own = [(r["session"], r["attempt"]) for r in history if r["trial"] == row["trial"]]
        over = max(own) > (row["session"], row["attempt"])
        if row["step"] is None and row["state"] == "RUNNING" and over:
            del best[key]
    return [(best[k]["trial"], best[k]["step"], best[k]["latency_ms"]) for k in sorted(best)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=actions, merge_every=st.integers(2, 4))
def test_any_history_of_appends_and_compactions_reads_the_same(
    actions: list[Any],
    merge_every: int,
    info: RunInfo,
    provenance: Provenance,
    row: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = RunFolder.create(tmp_path_factory.mktemp("h") / "r", info, "")
    history: list[dict[str, Any]] = []
    session = 1
    writer = Writer(folder, session, provenance, merge_every=merge_every)
    for action in actions:
        if action == "compact":
            writer.compact()
        elif action == "restart":
            writer.close()
            session += 1
            writer = Writer(folder, session, provenance, merge_every=merge_every)
        elif action == "crashed compaction":
            before = {p: p.read_bytes() for p in folder.results.iterdir()}
            writer.compact()
            for path in sorted(before)[len(before) // 2 :]:
                path.write_bytes(before[path])
        else:
            rows = [
                row(t, s, attempt=a, session=session, latency_ms=float(len(history) + i))
                for i, (t, s, a) in enumerate(action)
            ]
            writer.append(rows)
            history += rows
        table = read(folder)
        seen = zip(*(table[c].to_pylist() for c in ("trial", "step", "latency_ms")), strict=True)
        assert list(seen) == expected(history)
    writer.close()


# -- other readers, while a writer is at work --------------------------------------------------


def _pyarrow(results: Path) -> list[int]:
    dataset = pytest.importorskip("pyarrow.dataset")
    table = dataset.dataset(results, format="parquet").to_table(columns=["trial"])
    return list(table["trial"].to_pylist())


def _pandas(results: Path) -> list[int]:
    pandas = pytest.importorskip("pandas")
    return list(pandas.read_parquet(results)["trial"])


def _duckdb(results: Path) -> list[int]:
    duckdb = pytest.importorskip("duckdb")
    query = f"select trial from read_parquet('{results}/*.parquet', union_by_name = true)"
    with duckdb.connect() as connection:
        return [trial for (trial,) in connection.sql(query).fetchall()]


def _polars(results: Path) -> list[int]:
    polars = pytest.importorskip("polars")
    return list(polars.read_parquet(results / "*.parquet", columns=["trial"])["trial"])


def _raynas(results: Path) -> list[int]:
    return list(read(RunFolder.open(results.parent))["trial"].to_pylist())


@pytest.mark.parametrize("reader", [_pyarrow, _pandas, _duckdb, _polars, _raynas])
def test_anyone_can_read_while_a_writer_appends(
    folder: RunFolder, provenance: Provenance, row: Any, reader: Any
) -> None:
    stop = threading.Event()
    stored = 0
    (folder.results / ".tmp-1-left").write_bytes(b"a crash left this")
    writer = Writer(folder, 1, provenance, merge_every=8 if reader is _raynas else 10_000)
    (folder.results / ".tmp-2-half").write_bytes(b"this is being written")
    writer.append([row(0)])

    def work() -> None:
        nonlocal stored
        while not stop.is_set() and stored < 300:
            writer.append([row(stored + 1)])
            stored += 1
            time.sleep(0.002)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            least = stored
            seen = reader(folder.results)
            assert sorted(seen) == list(range(len(seen)))
            assert len(seen) > least
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert sorted(reader(folder.results)) == list(range(stored + 1))
