"""A supernet is trained, subnets race by inherited weights, then truth and finalists."""

from recorded.parts import (
    Budget,
    Digits,
    Experiment,
    Finalists,
    FineTune,
    Inherited,
    NASBench201,
    Race,
    RankingCheck,
    Recipe,
    RegularizedEvolution,
    Retrain,
    SinglePath,
    TrainSupernet,
)

SHORT = Recipe(epochs=2, batch_size=64, lr=0.05, flip=False, crop_pad=1)


def experiment() -> Experiment:
    training = TrainSupernet(
        Recipe(epochs=4, batch_size=32, lr=0.05, flip=False, crop_pad=1, grad_clip=5.0),
        SinglePath(canonical=True),
        average=2,
        look_images=64,
        look_calibration=64,
    )
    race = Race(keep=2, calibration=32, pilots=4, first=16)
    return Experiment(
        space=NASBench201(channels=4, cells=1),
        data=Digits(subset=512),
        evaluator=Inherited(training, calibration=64, preferred_batch=6, race=race),
        sampler=RegularizedEvolution(population=6, sample=3),
        baselines=(),
        budget=Budget(trials=18),
        ranking_check=RankingCheck(Retrain(SHORT), count=2),
        finalists=Finalists(top=1, seeds=1, evaluator=Retrain(SHORT), inherited=FineTune(SHORT)),
    )
