"""The folder of a job: what it takes over, and what it never sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toys import ToySpace

from raynas.core import Job
from raynas.runners.job_folders import job_folder
from raynas.store.claims import FolderClaim, newest
from raynas.store.remote import RemoteFolder

ONE, OTHER = (ToySpace().architecture(f"x={x},y=0,op=a") for x in (0, 1))


def job(folder: Path, claim: str = "0001-000001", **more: object) -> Job:
    return replace(Job(3, 0, 4, workdir=folder / "000003", claim=claim), **more)  # type: ignore[arg-type]


@pytest.fixture(params=["local", "mirrored"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """Settings of jobs whose folders are seen by all machines, or kept on shared storage."""
    if request.param == "local":
        return {}
    return {"mirror": (tmp_path / "shared" / "000003").as_uri()}


def work(given: Job, arch: object, text: str) -> tuple[bool, str]:
    """A job that writes a file: whether it began from nothing, and what was there."""
    with job_folder(given, arch) as folder:  # type: ignore[arg-type]
        place = folder.job.workdir
        assert place is not None
        before = (place / "state").read_text() if (place / "state").exists() else ""
        place.mkdir(parents=True, exist_ok=True)
        (place / "state").write_text(text)
        folder.push()
    return folder.fresh, before


def test_the_next_job_goes_on_from_the_last_one(tmp_path: Path, storage: dict[str, object]) -> None:
    assert work(job(tmp_path, **storage), ONE, "a") == (True, "")
    assert work(job(tmp_path, "0001-000002", **storage), ONE, "b") == (False, "a")
    assert work(job(tmp_path, "0002-000001", **storage), ONE, "c") == (False, "b")


def test_of_another_architecture_nothing_is_left(
    tmp_path: Path, storage: dict[str, object]
) -> None:
    work(job(tmp_path, **storage), ONE, "a")
    assert work(job(tmp_path, "0002-000001", **storage), OTHER, "b") == (True, "")
    assert work(job(tmp_path, "0002-000002", **storage), ONE, "c") == (True, "")


def test_a_worker_that_was_taken_for_dead_does_not_disturb_its_successor(
    tmp_path: Path, storage: dict[str, object]
) -> None:
    first = job_folder(job(tmp_path / "one", **storage), ONE)
    with first as old:
        assert old.job.workdir is not None
        old.job.workdir.mkdir(parents=True, exist_ok=True)
        (old.job.workdir / "state").write_text("5")
        old.push()
        place = tmp_path / ("one" if not storage else "two")  # another machine
        assert work(job(place, "0001-000002", **storage), ONE, "9") == (False, "5")
        old.job.workdir.mkdir(parents=True, exist_ok=True)
        (old.job.workdir / "state").write_text("6")
        old.push()
    assert work(job(place, "0001-000003", **storage), ONE, "10") == (False, "9")


def test_files_of_earlier_versions_belong_to_a_trial_that_was_measured(
    tmp_path: Path, storage: dict[str, object]
) -> None:
    root = tmp_path / "shared" / "000003" if storage else tmp_path / "000003"
    root.mkdir(parents=True)
    (root / "state").write_text("old")
    assert work(job(tmp_path, stored=2, **storage), ONE, "new") == (False, "old")
    assert sorted(place.name for place in root.iterdir()) == [f"0001-000001-{ONE.id}"]


def test_files_of_earlier_versions_under_a_number_that_was_lost_do_not_count(
    tmp_path: Path, storage: dict[str, object]
) -> None:
    root = tmp_path / "shared" / "000003" if storage else tmp_path / "000003"
    root.mkdir(parents=True)
    (root / "state").write_text("old")
    assert work(job(tmp_path, stored=0, **storage), ONE, "new") == (True, "")


def test_a_mirrored_job_leaves_nothing_on_its_machine(tmp_path: Path) -> None:
    """Whether it ends, fails or is closed in the middle."""
    shared = tmp_path / "shared" / "000003"
    given = job(tmp_path / "here", mirror=shared.as_uri())
    work(given, ONE, "a")
    assert not (tmp_path / "here" / "000003").exists()

    def broken() -> None:
        with job_folder(given, ONE) as folder:
            assert folder.job.workdir is not None
            assert (folder.job.workdir / "state").read_text() == "a"
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        broken()
    assert not (tmp_path / "here" / "000003").exists()
    names = RemoteFolder(shared.as_uri()).names()
    assert list(names) == [f"0001-000001-{ONE.id}/state"]


def test_a_job_without_a_claim_has_its_workdir(tmp_path: Path) -> None:
    with job_folder(job(tmp_path, claim=""), ONE) as folder:
        assert folder.job.workdir == tmp_path / "000003"
        assert folder.fresh
    with job_folder(Job(0, 0, 1), ONE) as folder:
        assert folder.job.workdir is None


def test_names_of_claims() -> None:
    claim = FolderClaim("0001-000012", "ab12")
    assert claim.name == "0001-000012-ab12"
    assert FolderClaim.parse(claim.name) == claim
    assert FolderClaim.parse("checkpoint-000012") is None
    names = ["0001-000012-a", "0002-000001-a", "0001-000300-b", "state"]
    assert newest(names) == "0002-000001-a"
    assert newest(names, FolderClaim("0001-000999", "a")) == "0001-000012-a"
    assert newest(names, FolderClaim("0003-000001", "c")) is None
    assert newest([]) is None
