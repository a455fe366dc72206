"""This package has the values that all other parts use.

It needs the standard library and numpy only.
"""

from raynas.core.architecture import Architecture, ArchitectureGraph, Choice, Costs, Option
from raynas.core.errors import (
    AllTrialsFailed,
    InfeasibleArchitecture,
    InvalidScore,
    RaynasError,
    SpaceExhausted,
    TrainingDiverged,
    UserError,
    unknown_option,
)
from raynas.core.failures import OUT_OF_MEMORY, commonest_reason, failed, failure_message
from raynas.core.metrics import Metric
from raynas.core.objectives import Bound, Objective, signed, violations
from raynas.core.ranks import Cascade, Ensemble, Ranking
from raynas.core.renamed import renamed_names
from raynas.core.seeding import rng_for, seed_for
from raynas.core.trial import (
    Decision,
    Job,
    Measurement,
    MeasurementSeries,
    SearchProblem,
    Trial,
    TrialState,
)

__all__ = [
    "OUT_OF_MEMORY",
    "AllTrialsFailed",
    "Architecture",
    "Bound",
    "Cascade",
    "Choice",
    "Costs",
    "Decision",
    "Ensemble",
    "ArchitectureGraph",
    "InfeasibleArchitecture",
    "InvalidScore",
    "Job",
    "MeasurementSeries",
    "Measurement",
    "Metric",
    "Objective",
    "Option",
    "SearchProblem",
    "Ranking",
    "RaynasError",
    "SpaceExhausted",
    "TrainingDiverged",
    "Trial",
    "TrialState",
    "UserError",
    "commonest_reason",
    "failed",
    "failure_message",
    "unknown_option",
    "rng_for",
    "seed_for",
    "signed",
    "violations",
]

__getattr__ = renamed_names(
    __name__,
    Graph="ArchitectureGraph",
    Measured="MeasurementSeries",
    Problem="SearchProblem",
    one_of="unknown_option",
)
