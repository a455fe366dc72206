"""Two objectives and a bound: Guided against evolution, ASHA stops trials."""

from recorded.parts import (
    ASHA,
    Bound,
    Budget,
    Curves,
    Experiment,
    Finalists,
    Guided,
    Objective,
    RegularizedEvolution,
    ToyData,
    ToySpace,
)


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(),
        data=ToyData(),
        evaluator=Curves(max_step=8),
        objectives=(Objective(), Objective("params", "min")),
        bounds=(Bound("macs", max=1500),),
        sampler=Guided(startup=4),
        scheduler=ASHA(1, 2),
        baselines=(RegularizedEvolution(population=5, sample=2),),
        deterministic_workers=2,
        budget=Budget(trials=18),
        finalists=Finalists(top=2, seeds=1),
    )
