"""Keys in URIs, and names that a storage lists: neither reaches the disk as it is."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raynas.core import UserError
from raynas.store import Provenance, RunFolder, RunInfo, Writer, read
from raynas.store.local_storage import LocalStorage
from raynas.store.manifest import Manifest
from raynas.store.remote import RemoteFolder, is_below
from raynas.store.storage import OPENERS, FileStat
from raynas.store.uris import scrubbed, shown, without_secrets
from raynas.store.working_copies import URI_FILE, fetch, remote_of, remotes_forgotten, working_copy

KEYED = "s3://KEYNAME:SeCrEt%2Fpart@bucket/run?region=eu&scheme=http"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for all buckets."""
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(OPENERS, "s3", lambda _: LocalStorage(tmp_path / "bucket"))


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        (KEYED, "s3://bucket/run?region=eu&scheme=http"),
        ("s3://K:S/e/c@bucket/run", "s3://bucket/run"),
        ("s3://bucket/run?secret_key=abc&region=eu", "s3://bucket/run?region=eu"),
        ("abfs://account:key@container/run", "abfs://account@container/run"),
        ("abfs://c/run?account_key=abc", "abfs://c/run"),
        ("abfss://c@a.dfs.core.windows.net/run?sas_token=x", "abfss://c@a.dfs.core.windows.net/run"),
        ("hdfs://me:pw@host:9000/run", "hdfs://me@host:9000/run"),
        *((same, same) for same in (
            "s3://bucket/run", "s3://anonymous@bucket/run", "hdfs://host:9000/run",
            "s3://bucket/run?region=eu", "file:///a%20b/c", "gs://bucket/",
        )),
    ],
)  # fmt: skip
def test_what_is_written_down_of_a_uri(uri: str, plain: str) -> None:
    assert without_secrets(uri) == plain
    assert without_secrets(plain) == plain
    assert shown(plain) == shown(uri)


@settings(deadline=None)
@given(st.text(min_size=8, max_size=20, alphabet="abcdefXYZ0189+%="))
def test_no_secret_stays(secret: str) -> None:
    for uri in (f"s3://who:{secret}@b/r", f"hdfs://who:{secret}@b/r", f"s3://b/r?token={secret}"):
        plain = without_secrets(uri)
        assert secret not in plain
        assert scrubbed(plain, uri) == plain


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def test_keys_are_not_written_to_the_disk(
    tmp_path: Path, info: RunInfo, provenance: Provenance, row: Any
) -> None:
    folder = RunFolder.create(working_copy(KEYED), info, "x = 1\n", uri=KEYED)
    with Writer(folder, 1, provenance) as writer:
        writer.append([row(0)])
    assert read(RunFolder.open(fetch(KEYED))).num_rows == 1
    assert files_with(tmp_path, "SeCrEt") == []
    assert files_with(tmp_path, "KEYNAME") == []
    # this process goes on with the keys that it was given, and so do its workers
    for found in (remote_of(folder.path), folder.remote):
        assert found is not None
        assert pickle.loads(pickle.dumps(found)).uri == KEYED
    remotes_forgotten()
    later = remote_of(folder.path)
    assert later is not None
    assert later.uri == without_secrets(KEYED)


def test_keys_that_an_earlier_raynas_wrote_are_the_users_alone(tmp_path: Path) -> None:
    file = tmp_path / URI_FILE
    file.write_text(KEYED)
    file.chmod(0o644)
    remotes_forgotten()
    remote = remote_of(tmp_path)
    assert remote is not None
    assert remote.uri == KEYED
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./x", "..", "a\\..\\x", "x\0y", "a/", ""],
)
def test_a_name_that_leaves_the_folder_is_refused(
    name: str, tmp_path: Path, info: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "s3://bucket/run"
    RunFolder.create(working_copy(uri), info, "x = 1\n", uri=uri)
    stats = LocalStorage.stats

    def listed(self: LocalStorage, folder: str = "") -> dict[str, FileStat]:
        return {**stats(self, folder), name: FileStat(1, "tag", 0.0)}

    monkeypatch.setattr(LocalStorage, "stats", listed)
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"lists a file with the name .*without '\.\.'") as told:
        fetch(uri)
    assert "\0" not in str(told.value)
    after = sorted(p for p in tmp_path.rglob("*") if p.name not in ("fetch.lock",))
    assert set(after) <= set(before)


def test_names_below_are_allowed() -> None:
    assert all(map(is_below, ("x", "a/b.c", "..x", "x..", "results/0001-00000001.parquet", ".x")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fragments", ["../../x"]), ("fragments", "abc"), ("seals", [1]), ("seals", None),
        ("version", "1"), ("version", -1), ("epoch", 1.5), ("first", True), ("first", 2**80),
    ],
)  # fmt: skip
def test_a_manifest_of_others_is_refused(field: str, value: object) -> None:
    made = Manifest(1, 1, ("0001-00000001.parquet",), 2)
    assert Manifest.from_json(made.to_json()) == made
    data = {**json.loads(made.to_json()), field: value}
    with pytest.raises(ValueError, match="is not"):
        Manifest.from_json(json.dumps(data).encode())


def test_remote_shows_no_key() -> None:
    assert "SeCrEt" not in repr(RemoteFolder(KEYED))
