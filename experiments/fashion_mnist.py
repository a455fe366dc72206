"""Does the search beat a ResNet drawn by hand at the same MACs, on Fashion-MNIST, on a CPU?

An elastic ResNet (depth, width, kernel and expansion of every block are open) that may need no
more MACs than the one drawn by hand: three blocks a stage, 3 x 3, widths that double where the
image halves. TPE with ASHA trains on 6,000 of the 60,000 images and validates on 2,000; the
finalists train on these 8,000 over 3 seeds.
`python experiments/fashion_mnist.py` trains the hand-made network as the finalists are, on the
same images, and prints its test accuracy; experiments/LOG.md has the comparison.
Expected: no. The finalists have 87.1 to 87.5 % on the test images, the hand-made network 88.1 %
(88.3 % with `--depth 2`), each +- 0.2 to 0.7 over 3 seeds.
Time and hardware: 17 minutes on 2 CPU cores that did other work, too, 10 or so on free ones;
2 to 3 for the hand-made network.
Data: `apt-get install dataset-fashion-mnist`, or FashionMNIST(folder=...).
"""

import argparse
import statistics

from raynas.cli.main import run_script
from raynas.core import Architecture, Bound, Job, seed_for
from raynas.data import FashionMNIST
from raynas.evaluators import Retrain
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import ElasticResNet
from raynas.training import Recipe

SPACE = ElasticResNet(
    widths=((8, 16, 24), (16, 32, 48), (32, 64, 96)),
    strides=(2, 2, 2),
    kernels=(3, 5),
    stem_width=8,
    divisor=4,
)
IMAGE = (1, 28, 28)


def by_hand(depth: int = 3) -> Architecture:
    """Equal bottleneck blocks, ``depth`` a stage, as one would draw them."""
    return SPACE.architecture("_".join(f"w{w}d{depth}" + depth * "-k3e0.5" for w in (16, 32, 64)))


def experiment() -> Experiment:
    return Experiment(
        space=SPACE,
        data=FashionMNIST(subset=8_000, valid_share=0.25),
        evaluator=Retrain(Recipe(epochs=9, batch_size=64, lr=0.05, crop_pad=1)),
        sampler=TPE(n_startup=8),
        scheduler=ASHA(min_step=3, factor=3),
        bounds=(Bound("macs", max=SPACE.costs(by_hand(), IMAGE).macs),),
        budget=Budget(trials=24),
        finalists=Finalists(top=2, seeds=3),
        smoke={
            "budget.trials": 2,
            "evaluator.recipe.epochs": 1,
            "scheduler.min_step": 1,
            "finalists.top": 1,
            "finalists.seeds": 1,
            "data.subset": 256,
            "data.test_subset": 256,
        },
    )


def main() -> None:
    """The hand-made network: trained as the finalists are, on the same images, from their seeds."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=3, choices=(1, 2, 3), help="blocks a stage")
    given = parser.parse_args()
    seeds, own = given.seeds, experiment()
    evaluator, arch = own.evaluator, by_hand(given.depth)
    evaluator.setup(SPACE, own.data.final_view(own.seed))
    accuracies = []
    for k in range(seeds):
        job = Job(trial=k, seed=seed_for(own.seed, "final", k), max_step=evaluator.max_step)
        *_, last = evaluator.evaluate(arch, job)
        accuracies.append(last.values["test_accuracy"])
        print(f"seed {k}: test accuracy {accuracies[-1]:.2f} %", flush=True)
    costs = SPACE.costs(arch, IMAGE)
    spread = f" +- {statistics.stdev(accuracies):.2f}" if seeds > 1 else ""
    print(
        f"by hand: {arch.text}\n{costs.params:,} params, {costs.macs:,} MACs, "
        f"test accuracy {statistics.mean(accuracies):.2f}{spread} % over {seeds} seeds"
    )


if __name__ == "__main__":
    run_script(main)
