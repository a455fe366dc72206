"""This module writes event files for TensorBoard: a curve per trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.callbacks.base import Row, RunCallback, metrics_of
from raynas.core import UserError


@dataclass
class TensorBoard(RunCallback):
    """A callback that writes TensorBoard event files to ``RUN/tensorboard``, a folder per trial.

    ``tensorboard --logdir RUN/tensorboard`` shows them.

    Attributes:
        most: Largest number of trials with a folder of their own.
    """

    name: ClassVar[str] = "tensorboard"
    most: int = 500
    _folder: Path = field(default=Path(), init=False, repr=False)
    _writers: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        """Choose the folder for event files.

        Args:
            run: The run's id, not used.
            folder: The run's folder.
            description: Plain description of the experiment, not used.

        Raises:
            UserError: The package ``tensorboardX`` is missing.
        """
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise UserError(
                "tensorboardX is not installed", hint="pip install tensorboardX"
            ) from error
        self._folder = folder / "tensorboard"

    def show(self, row: Row) -> None:
        """Write the metrics of a row, if it has a step.

        Args:
            row: A row of the result table.
        """
        found = metrics_of(row)
        if row.get("step") is None or not found:
            return
        name = f"{row['stage']}-{row['arm']}-{row['trial']:06d}"
        if name not in self._writers:
            if len(self._writers) >= self.most:
                return
            self._writers[name] = self._writer(name, str(row["arch"]))
        for metric, value in found.items():
            self._writers[name].add_scalar(metric, value, row["step"])
        self._writers[name].flush()

    def _writer(self, name: str, arch: str) -> Any:
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(str(self._folder / name))
        writer.add_text("architecture", arch)
        return writer

    def close(self) -> None:
        """Close all event files."""
        for writer in self._writers.values():
            writer.close()
