"""This module logs to Weights & Biases: one run for the search, its rows as points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.callbacks.base import Row, RunCallback, metrics_of
from raynas.core import UserError


@dataclass
class WandB(RunCallback):
    """A callback that logs to Weights & Biases.

    ``wandb login`` or ``WANDB_MODE=offline`` says where. A resumed run is continued there.

    Attributes:
        project: Name of the project.
    """

    name: ClassVar[str] = "wandb"
    project: str = "raynas"
    _run: Any = field(default=None, init=False, repr=False)

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Begin or continue the run of the search.

        Args:
            run: The run's id.
            folder: The run's folder, where files are kept.
            description: Plain description of the experiment, logged as the configuration.

        Raises:
            UserError: The package ``wandb`` is missing.
        """
        try:
            import wandb
        except ImportError as error:
            raise UserError("wandb is not installed", hint="pip install wandb") from error
        self._run = wandb.init(
            project=self.project,
            id=run,
            name=run,
            resume="allow",
            dir=str(folder),
            config=dict(description),
            settings=wandb.Settings(silent=True),
        )

    def show(self, row: Row) -> None:
        """Log a row as one point.

        Args:
            row: A row of the result table.
        """
        point: dict[str, Any] = metrics_of(row)
        for key in ("trial", "step", "stage", "arm", "state", "arch", "params", "macs"):
            point[key] = row.get(key)
        self._run.log(point)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish(quiet=True)
