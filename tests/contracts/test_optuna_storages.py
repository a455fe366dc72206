"""Optuna's test cases for storages, on the SQLite file that ``raynas export-study`` writes.

Each case runs on a file with the study of an exported run in it, and on one whose study was deleted
through Optuna.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.testing.pytest_storages import StorageTestCase
from repetition import more

from raynas.core import Measurement, Objective, Trial, TrialState
from raynas.samplers.studies import write_studies
from raynas.testing.toys import ToySpace

EMPTY_ONLY = "the case counts all studies of a storage that is empty at first"
COUNTS_ALL_STUDIES = {
    "test_create_new_study",
    "test_create_new_study_unique_id",
    "test_get_all_studies",
}


def trials() -> list[Trial]:
    space = ToySpace()
    found = []
    for number, arch in enumerate(list(space.enumerate())[:6]):
        trial = Trial(number, arch, arch, seed=number, state=TrialState.COMPLETE)
        trial.measurements = [Measurement(s, {"val_accuracy": 50.0 + s}) for s in (1, 2)]
        found.append(trial)
    found[4].state, found[5].state = TrialState.STOPPED, TrialState.FAILED
    return found


def export(file: Path) -> None:
    write_studies(file, ToySpace().choices, (Objective("val_accuracy"),), (), {"run": trials()}, {})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "studies.db"
    export(file)
    return file


class TestExportedFile(StorageTestCase):
    @pytest.fixture(params=["with its study", *more("emptied")])
    def storage(
        self, request: pytest.FixtureRequest, exported: Path, tmp_path: Path
    ) -> Iterator[RDBStorage]:
        if request.param != "emptied" and request.node.originalname in COUNTS_ALL_STUDIES:
            pytest.skip(EMPTY_ONLY)
        shutil.copy(exported, tmp_path / "studies.db")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(f"sqlite:///{tmp_path / 'studies.db'}")
            (study,) = storage.get_all_studies()
            assert storage.get_n_trials(study._study_id) == 6
            if request.param == "emptied":
                storage.delete_study(study._study_id)
            yield storage
            storage.engine.dispose()
