"""Quick evaluations by actors on Ray: local search against random search."""

from recorded.parts import (
    Budget,
    Experiment,
    Finalists,
    LocalSearch,
    Quick,
    Random,
    Resources,
    ToyData,
    ToySpace,
)


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(merge=True),
        data=ToyData(),
        evaluator=Quick(max_step=2),
        sampler=LocalSearch(initial=4, improvement="best"),
        baselines=(Random(),),
        deterministic_workers=4,
        budget=Budget(trials=24),
        finalists=Finalists(top=2, seeds=1),
        resources=Resources(cpus=0.5, concurrent=2),
    )
