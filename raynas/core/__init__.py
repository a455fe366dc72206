"""The ground floor: values that every other part speaks of. Standard library and numpy only."""

from raynas.core.architecture import Architecture, Choice, Costs, Graph, Option
from raynas.core.errors import (
    InvalidScore,
    RaynasError,
    SpaceExhausted,
    TrainingDiverged,
    UserError,
    one_of,
)
from raynas.core.metrics import Metric
from raynas.core.objectives import Bound, Objective, signed, violations
from raynas.core.ranks import Cascade, Ensemble, Ranking
from raynas.core.seeding import rng_for, seed_for
from raynas.core.trial import Decision, Job, Measured, Measurement, Problem, Trial, TrialState

__all__ = [
    "Architecture", "Bound", "Cascade", "Choice", "Costs", "Decision", "Ensemble", "Graph",
    "InvalidScore", "Job", "Measured", "Measurement", "Metric", "Objective", "Option", "Problem",
    "Ranking", "RaynasError", "SpaceExhausted", "TrainingDiverged", "Trial", "TrialState",
    "UserError", "one_of", "rng_for", "seed_for", "signed", "violations",
]  # fmt: skip
