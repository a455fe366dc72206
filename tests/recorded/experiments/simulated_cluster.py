"""A table on simulated machines that start late, fail and are taken away; ASHA stops trials."""

from recorded.parts import (
    ASHA,
    TPE,
    Budget,
    Experiment,
    Finalists,
    NASBench201,
    Synthetic,
    Tabular,
    ToyData,
)


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=ToyData(),
        evaluator=Tabular(Synthetic(max_step=9, seconds=300.0, noise=0.3)),
        sampler=TPE(n_startup=10),
        scheduler=ASHA(1, 3),
        baselines=(),
        budget=Budget(trials=40),
        finalists=Finalists(top=0),
    )
