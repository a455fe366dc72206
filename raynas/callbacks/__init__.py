"""Callbacks show the results of a run elsewhere while it goes on.

Each callback of the package is one file here, and one line in ``CALLBACKS``. A callback may miss
rows; only the store is complete.
"""

from raynas.callbacks.base import CallbackDispatcher, Row, RunCallback
from raynas.callbacks.mlflow import MLflow
from raynas.callbacks.prometheus import Prometheus
from raynas.callbacks.tensorboard import TensorBoard
from raynas.callbacks.wandb import WandB
from raynas.core.renamed import renamed_names

CALLBACKS: dict[str, type[RunCallback]] = {
    TensorBoard.name: TensorBoard,
    MLflow.name: MLflow,
    WandB.name: WandB,
    Prometheus.name: Prometheus,
}

__all__ = [
    "CALLBACKS",
    "CallbackDispatcher",
    "MLflow",
    "RunCallback",
    "Prometheus",
    "Row",
    "TensorBoard",
    "WandB",
]

__getattr__ = renamed_names(
    __name__, Observer="RunCallback", OBSERVERS="CALLBACKS", Board="CallbackDispatcher"
)
