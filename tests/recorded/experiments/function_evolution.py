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
    if arch["x"] == 0 and arch["op"] == "b":
        raise RuntimeError("the function fails")
    shift = 3 if job.held_out == "test" else 0
    best = 80 - 3 * abs(arch["x"] - 3) - 2 * abs(arch["y"] - 4) - shift
    left = {"a": 0.3, "b": 0.5, "c": 0.8}[arch["op"]]  # curves cross
    for step in range(1, 7):
        if step == 3 and arch["y"] == 0:
            return  # it ends early by itself
        value = best * (1 - left**step) + (job.seed % 97) / 97
        yield float("nan") if step == 4 and arch["y"] == 1 else value


def experiment() -> Experiment:
    return Experiment(
        space=ToySpace(merge=True),
        data=ToyData(),
        evaluator=FunctionEvaluator(train, max_step=6, on_test=True),
        sampler=RegularizedEvolution(population=4, sample=3),
        scheduler=PASHA(1, 2, epsilon=0.1),
        against=(Random(),),
        in_order=2,
        budget=Budget(trials=20),
        finalists=Finalists(top=2, seeds=2),
    )
