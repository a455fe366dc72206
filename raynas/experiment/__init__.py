"""Experiments: the frozen value, files that make one, and settings from the command line."""

from raynas.core.renamed import renamed_names
from raynas.experiment.experiment import Budget, Experiment, Finalists, RankingCheck, check_name
from raynas.experiment.loading import LoadedExperiment, load, with_data
from raynas.experiment.objects import load_object
from raynas.experiment.overrides import apply, parse_overrides

__all__ = [
    "Budget",
    "Experiment",
    "Finalists",
    "LoadedExperiment",
    "RankingCheck",
    "apply",
    "check_name",
    "load",
    "load_object",
    "parse_overrides",
    "with_data",
]

__getattr__ = renamed_names(__name__, Truth="RankingCheck", Loaded="LoadedExperiment")
