"""Two objectives and a bound: Guided against elitist evolution, trials pause by PASHA."""

from recorded.parts import (
    PASHA,
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
        scheduler=PASHA(1, 2, epsilon=0.3),
        against=(RegularizedEvolution(population=5, sample=2),),
        in_order=2,
        budget=Budget(trials=18),
        finalists=Finalists(top=2, seeds=1),
    )
