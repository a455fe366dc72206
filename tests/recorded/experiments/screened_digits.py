"""Digits are trained for real; proxies screen the proposals, ASHA stops, finalists on test."""

from recorded.parts import (
    ASHA,
    NASWOT,
    Budget,
    Digits,
    Ensemble,
    Experiment,
    Finalists,
    NASBench201,
    Random,
    Recipe,
    Retrain,
    Screen,
    SynFlow,
    ZeroShot,
)


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(channels=4, cells=1),
        data=Digits(subset=256),
        evaluator=Retrain(Recipe(epochs=3, batch_size=64, flip=False, crop_pad=1)),
        sampler=Random(),
        screen=Screen(
            ZeroShot((NASWOT(), SynFlow()), batch=16),
            keep=0.5,
            batch=4,
            by=Ensemble(("naswot", "synflow", "params")),
        ),
        scheduler=ASHA(min_step=1, factor=3),
        baselines=(),
        deterministic_workers=2,
        budget=Budget(trials=4),
        finalists=Finalists(top=1, seeds=2),
    )
