"""Observers show the results of a run elsewhere while it goes on.

Each observer of the package is one file here, and one line in ``OBSERVERS``. An observer may miss
rows; only the store is complete.
"""

from raynas.callbacks.base import Board, Observer, Row
from raynas.callbacks.mlflow import MLflow
from raynas.callbacks.prometheus import Prometheus
from raynas.callbacks.tensorboard import TensorBoard
from raynas.callbacks.wandb import WandB

OBSERVERS: dict[str, type[Observer]] = {
    TensorBoard.name: TensorBoard,
    MLflow.name: MLflow,
    WandB.name: WandB,
    Prometheus.name: Prometheus,
}

__all__ = ["OBSERVERS", "Board", "MLflow", "Observer", "Prometheus", "Row", "TensorBoard", "WandB"]
