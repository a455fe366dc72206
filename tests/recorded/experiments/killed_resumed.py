"""Its process is killed in the search and in the baseline; resumed each time, then extended."""

import os

from recorded.parts import (
    TPE,
    Budget,
    Curves,
    Experiment,
    Finalists,
    PromotionASHA,
    Random,
    ToyData,
    ToySpace,
)

KILLED = ("x=2,y=3,op=a", "x=3,y=4,op=c")


def experiment() -> Experiment:
    marks = os.environ["RECORDED_FOLDER"] + "/marks"
    return Experiment(
        space=ToySpace(),
        data=ToyData(),
        evaluator=Curves(max_step=4, fault=dict.fromkeys(KILLED, "kill"), log=marks),
        sampler=TPE(n_startup=5),
        scheduler=PromotionASHA(1, 2),
        baselines=(Random(),),
        deterministic_workers=2,
        budget=Budget(trials=14),
        finalists=Finalists(top=2, seeds=2),
    )
