"""A table with noise; TPE against local search, trials pause by PromotionASHA."""

from recorded.parts import (
    TPE,
    Budget,
    Experiment,
    Finalists,
    LocalSearch,
    NASBench201,
    PromotionASHA,
    Synthetic,
    Tabular,
    ToyData,
)


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=ToyData(),
        evaluator=Tabular(Synthetic(max_step=9, noise=0.5, seed=3)),
        sampler=TPE(n_startup=8),
        scheduler=PromotionASHA(1, 3),
        baselines=(LocalSearch(initial=5),),
        deterministic_workers=3,
        seed=4,
        budget=Budget(trials=18),
        finalists=Finalists(top=3, seeds=1),
    )
