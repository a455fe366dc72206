"""This package has the values that all other parts use.

It needs the standard library and numpy only.
"""

from raynas.core.architecture import Architecture, Choice, Costs, Graph, Option
from raynas.core.errors import (
    AllTrialsFailed,
    InfeasibleArchitecture,
    InvalidScore,
    RaynasError,
    SpaceExhausted,
    TrainingDiverged,
    UserError,
    one_of,
)
from raynas.core.failures import OUT_OF_MEMORY, commonest_reason, failed, failure_message
from raynas.core.metrics import Metric
from raynas.core.objectives import Bound, Objective, signed, violations
from raynas.core.ranks import Cascade, Ensemble, Ranking
from raynas.core.seeding import rng_for, seed_for
from raynas.core.trial import Decision, Job, Measured, Measurement, Problem, Trial, TrialState

__all__ = [
    "OUT_OF_MEMORY", "AllTrialsFailed", "Architecture", "Bound", "Cascade", "Choice", "Costs",
    "Decision", "Ensemble", "Graph", "InfeasibleArchitecture", "InvalidScore", "Job", "Measured",
    "Measurement", "Metric", "Objective", "Option", "Problem", "Ranking", "RaynasError",
    "SpaceExhausted", "TrainingDiverged", "Trial", "TrialState", "UserError", "commonest_reason",
    "failed", "failure_message", "one_of", "rng_for", "seed_for", "signed", "violations",
]  # fmt: skip
