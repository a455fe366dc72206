"""This module writes to MLflow: one run per trial, inside a run for the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.callbacks.base import Row, RunCallback, metrics_of
from raynas.core import TrialState, UserError

_STATUS = {TrialState.FAILED: "FAILED", TrialState.STOPPED: "KILLED"}


@dataclass
class MLflow(RunCallback):
    """A callback that writes to MLflow.

    The environment variable ``MLFLOW_TRACKING_URI`` names the server or folder; the default is
    ``mlruns``.
    """

    name: ClassVar[str] = "mlflow"
    _client: Any = field(default=None, init=False, repr=False)
    _parent: Any = field(default=None, init=False, repr=False)
    _runs: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Create the run of the search.

        Args:
            run: The run's id, used as its name.
            folder: The run's folder, stored as a tag.
            description: Plain description of the experiment, not used.

        Raises:
            UserError: The package ``mlflow`` is missing.
        """
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("mlflow is not installed", hint="pip install mlflow") from error
        self._client = MlflowClient()
        found = self._client.get_experiment_by_name("raynas")
        experiment = found.experiment_id if found else self._client.create_experiment("raynas")
        self._parent = self._client.create_run(experiment, run_name=run).info
        self._client.set_tag(self._parent.run_id, "raynas.folder", str(folder))

    def show(self, row: Row) -> None:
        """Log the metrics of a row; the first row of a trial creates its run.

        Args:
            row: A row of the result table.
        """
        trial = int(row["trial"])
        if trial not in self._runs:
            self._runs[trial] = self._begin(row)
        run = self._runs[trial]
        for name, value in metrics_of(row).items():
            self._client.log_metric(run, name, value, step=row.get("step") or 0)
        state = TrialState(row["state"])
        if state.ended:
            self._client.set_terminated(run, _STATUS.get(state, "FINISHED"))

    def _begin(self, row: Row) -> str:
        tags = {"mlflow.parentRunId": self._parent.run_id}
        name = f"{row['arm']} {row['trial']}"
        info = self._client.create_run(self._parent.experiment_id, run_name=name, tags=tags).info
        for key in ("arch", "params", "macs", "seed", "stage"):
            self._client.log_param(info.run_id, key, str(row.get(key))[:500])
        return str(info.run_id)

    def close(self) -> None:
        """Mark the run of the search as ended."""
        self._client.set_terminated(self._parent.run_id)
