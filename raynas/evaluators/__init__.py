"""Evaluators: what an architecture is worth. Names load when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raynas.evaluators.base import Evaluator
    from raynas.evaluators.function import FunctionEvaluator
    from raynas.evaluators.retrain import Retrain, load_trained

#: the evaluators that come with raynas, and the module that holds each; a new one: one line here
EVALUATORS = {"Retrain": "retrain", "FunctionEvaluator": "function"}

_WHERE = {**EVALUATORS, "Evaluator": "base", "load_trained": "retrain"}

__all__ = ["EVALUATORS", "Evaluator", "FunctionEvaluator", "Retrain", "load_trained"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
