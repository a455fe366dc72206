"""Observers: where else results are shown while a run goes on. One of the package is one file here,
and one line in ``OBSERVERS``. The store stays the only truth: an observer may miss rows.
"""

from raynas.observers.base import Board, Observer, Row
from raynas.observers.mlflow import MLflow
from raynas.observers.prometheus import Prometheus
from raynas.observers.tensorboard import TensorBoard
from raynas.observers.wandb import WandB

OBSERVERS: dict[str, type[Observer]] = {
    TensorBoard.name: TensorBoard,
    MLflow.name: MLflow,
    WandB.name: WandB,
    Prometheus.name: Prometheus,
}

__all__ = ["OBSERVERS", "Board", "MLflow", "Observer", "Prometheus", "Row", "TensorBoard", "WandB"]
