"""Experiments: the frozen value, files that make one, and settings from the command line."""

from raynas.experiment.experiment import Budget, Experiment, Finalists, Truth, check_name
from raynas.experiment.loading import Loaded, load, with_data
from raynas.experiment.overrides import apply, parse_overrides

__all__ = [
    "Budget", "Experiment", "Finalists", "Loaded", "Truth", "apply", "check_name", "load",
    "parse_overrides", "with_data",
]  # fmt: skip
