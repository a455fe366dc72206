"""On Ray Tune, with three workers, trials that pause by Hyperband, and trials that fail."""

from recorded.parts import (
    Budget,
    Curves,
    Experiment,
    Finalists,
    Hyperband,
    RegularizedEvolution,
    Resources,
    ToyData,
    ToySpace,
)

FAULT = {"x=0": "crash", "x=1": "nan", "x=2": "short"}
FAULTS = {f"{x},y={y},op=a": fault for x, fault in FAULT.items() for y in range(6)}


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(),
        data=ToyData(),
        evaluator=Curves(max_step=8, fault=FAULTS),
        sampler=RegularizedEvolution(population=5, sample=2),
        scheduler=Hyperband(factor=2),
        baselines=(),
        deterministic_workers=3,
        budget=Budget(trials=14),
        finalists=Finalists(top=1, seeds=2),
        resources=Resources(cpus=0.5, concurrent=2),
    )
