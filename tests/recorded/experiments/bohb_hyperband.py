"""A table with latencies and a bound on them; BOHB with Hyperband, four workers in step."""

from recorded.parts import (
    BOHB,
    Bound,
    Budget,
    Experiment,
    Finalists,
    Hyperband,
    Synthetic,
    Tabular,
    ToyData,
    ToySpace,
)


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(merge=True),
        data=ToyData(),
        evaluator=Tabular(Synthetic(max_step=9, noise=0.2), costs=("latency_ms",)),
        sampler=BOHB(),
        scheduler=Hyperband(factor=3),
        bounds=(Bound("latency_ms", max=8.0), Bound("params", max=300)),
        baselines=(),
        deterministic_workers=4,
        seed=1,
        budget=Budget(trials=30),
        finalists=Finalists(top=2, seeds=1),
    )
