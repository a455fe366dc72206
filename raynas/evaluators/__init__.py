"""Evaluators: what an architecture is worth. One of the package is one file here, and one line in
``EVALUATORS``.

Importing this package does not import torch; ``evaluate`` does.
"""

from raynas.evaluators.base import Evaluator
from raynas.evaluators.function import FunctionEvaluator
from raynas.evaluators.retrain import Retrain, load_trained
from raynas.evaluators.screen import Screen
from raynas.evaluators.tabular import Tabular
from raynas.evaluators.zero_shot import ZeroShot

EVALUATORS: dict[str, type[Evaluator]] = {
    Retrain.name: Retrain,
    FunctionEvaluator.name: FunctionEvaluator,
    ZeroShot.name: ZeroShot,
    Tabular.name: Tabular,
}

__all__ = [
    "EVALUATORS",
    "Evaluator",
    "FunctionEvaluator",
    "Retrain",
    "Screen",
    "Tabular",
    "ZeroShot",
    "load_trained",
]
