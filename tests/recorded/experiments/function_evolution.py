"""A user's function as a generator, some of its calls fail; evolution, PASHA, finalists."""

from recorded.parts import (
    PASHA,
    Budget,
    Experiment,
    Finalists,
    FunctionEvaluator,
    Random,
    RegularizedEvolution,
    ToyData,
    ToySpace,
)


def train(arch, job):
    if arch["x"] == 0:
        raise RuntimeError("the function fails")
    best = 70 - 3 * abs(arch["x"] - 3) - 2 * abs(arch["y"] - 4) - 3 * (job.held_out == "test")
    for step in range(1, 7):
        if step == 2 and arch["y"] == 0:
            return  # it ends early by itself
        noise = 12 * (job.seed * step % 97) / 97  # so that curves cross
        yield float("nan") if step == 2 and arch["y"] == 1 else best * (1 - 0.5**step) + noise


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(merge=True),
        data=ToyData(),
        evaluator=FunctionEvaluator(train, max_step=6, on_test=True),
        sampler=RegularizedEvolution(population=4, sample=3),
        scheduler=PASHA(1, 2, epsilon=0.1),
        baselines=(Random(),),
        deterministic_workers=2,
        budget=Budget(trials=20),
        finalists=Finalists(top=2, seeds=2),
    )
