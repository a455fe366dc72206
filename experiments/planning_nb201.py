"""How many workers are worth their price? A search is planned before it is paid for.

`raynas simulate experiments/planning_nb201.py --workers 1,10,100,500 --price 2` runs this search on
simulated clusters in seconds: ASHA on the recorded trainings of NAS-Bench-201. Every cell is
trained for 12 epochs; the best third goes on to a training of 200 epochs, from scratch. One size,
`--workers 100 --hours 2`, shows what is found by when; `--startup 120 --preempt-rate 0.3
--checkpoint 600` what start-ups, lost machines and checkpoints cost.
`raynas run experiments/planning_nb201.py --local` carries the search out, with a report.
Expected: utilisation falls when the workers are no longer few beside the trials; the best cell is
found sooner, not better. Time and hardware: seconds on one core. Data: nb201.parquet in
$RAYNAS_DATA, which `raynas bench convert` makes from the benchmark's files; else the table of
`pip install 'raynas[bench]'`, which has no trainings of 12 epochs and no test accuracies: then
every cell is trained for 200 epochs, none is stopped early, and there are no finalists.
"""

from __future__ import annotations

from raynas.benchmarks import NASBench201Table, NoImages
from raynas.evaluators import Tabular
from raynas.experiment import Budget, Experiment, Finalists
from raynas.samplers import TPE
from raynas.schedulers import ASHA
from raynas.spaces import NASBench201


def experiment() -> Experiment:
    return Experiment(
        space=NASBench201(),
        data=NoImages(classes=10, size=32),
        evaluator=Tabular(NASBench201Table(epochs=(12, 200)), "cifar10"),
        sampler=TPE(),
        scheduler=ASHA(min_step=12, factor=3),
        budget=Budget(trials=300),
        finalists=Finalists(top=1, seeds=1),
        baselines=(),
        smoke={"budget.trials": 6},
    )
