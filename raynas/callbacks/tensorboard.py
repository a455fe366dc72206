"""TensorBoard: a curve per trial, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raynas.callbacks.base import Observer, Row, metrics_of
from raynas.core import UserError


@dataclass
class TensorBoard(Observer):
    """Event files in ``RUN/tensorboard``, a folder per trial; see them by
    ``tensorboard --logdir RUN/tensorboard``. ``most``: trials with a folder of their own."""

    name: ClassVar[str] = "tensorboard"
    most: int = 500
    _folder: Path = field(default=Path(), init=False, repr=False)
    _writers: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def open(self, run: str, folder: Path, description: Mapping[str, Any]) -> None:
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise UserError("tensorboardX is not here", cure="pip install tensorboardX") from error
        self._folder = folder / "tensorboard"

    def show(self, row: Row) -> None:
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
        for writer in self._writers.values():
            writer.close()
