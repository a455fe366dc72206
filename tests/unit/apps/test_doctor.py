"""What `raynas doctor` finds, without a cluster."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from raynas.apps import doctor
from raynas.runners.ray.node_checks import NodeCheck
from raynas.store import Provenance


def test_packages_are_compared_with_what_raynas_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._packages().good
    real = metadata.version

    def version(name: str) -> str:
        if name == "optuna":
            return "3.1"
        if name == "jinja2":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    finding = doctor._packages()
    assert not finding.good
    assert "optuna 3.1 is not >=5" in finding.found
    assert "jinja2 is missing" in finding.found


@pytest.mark.parametrize("uri", [False, True])
def test_storage_is_tried_and_left_as_it_was(tmp_path: Path, uri: bool) -> None:
    place = tmp_path / "runs"
    finding = doctor._storage(place.as_uri() if uri else place)
    assert " MB/s" in finding.found
    assert list(place.iterdir()) == []


def test_storage_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    finding = doctor._storage(tmp_path / "file")
    assert not finding.good
    assert "file" in finding.found


def test_slow_storage_is_no_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SLOW_MB_A_SECOND", 1e9)
    assert not doctor._storage(tmp_path).good


def node(**changes: Any) -> NodeCheck:
    versions = dict(Provenance.collect().versions)
    return NodeCheck(
        **{"host": "a", "cpus": 2, "gpus": 0, "memory_gb": 8, "versions": versions, **changes}
    )


def test_machines_are_good_unlike_blind_or_broken() -> None:
    (good,) = doctor._machine(node(smoke="one step in 0.1 s"))
    assert good.good
    assert good.found == "2 CPUs, 8.0 GB for Ray; one step in 0.1 s"
    (unlike,) = doctor._machine(node(versions={"torch": "1.0"}))
    assert not unlike.good
    assert "torch 1.0 instead of" in unlike.found
    (blind,) = doctor._machine(node(gpus=1))
    assert not blind.good
    assert "torch does not see" in blind.found
    (broken,) = doctor._machine(node(fault="ImportError: no my_images"))
    assert not broken.good
    assert "no my_images" in broken.found
