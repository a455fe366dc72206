"""What does one proposal cost? Ask and tell of every sampler, after 100 to 2,000 trials.

On NAS-Bench-201 (6 choices of 5), an elastic ResNet (24 ordered choices) and 20 choices of 5, a
made-up smooth objective, all trials complete. Expected: random and evolution below a millisecond or
two, TPE
tens of milliseconds, GP hundreds, which is why fast evaluators want evolution or batches.
"cannot": the sampler refuses the space (CMA-ES needs ordered choices); "exhausted": it is too
small.
`--samplers guided,tpe --trials 2000` prints some of it.

    python benchmarks/bench_samplers.py --after 2000 [--methods guided tpe]

replays so many random trials of a space with 20 choices first, and gives median, mean and worst of
the next 100. Expected: below 20 ms in the median for ``guided``, whose model is made anew every
hundred trials then, which takes some tenths of a second.
"""

from __future__ import annotations

import argparse
import statistics
import time

from raynas.core import (
    Architecture,
    Measurement,
    Objective,
    SearchProblem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
)
from raynas.samplers import samplers
from raynas.spaces import ElasticResNet, NASBench201, SearchSpace

SPACES: tuple[SearchSpace, ...] = (NASBench201(), ElasticResNet())
LONG = ElasticResNet(widths=((16, 24, 32), (32, 48, 64)), strides=(1, 2), depths=(1, 2, 3, 4))
"""20 choices."""


def milliseconds(name: str, space: SearchSpace, trials: int, patience: float) -> str:
    """Median over the last fifth of ``trials``, or why there is none."""
    sampler, took, deadline = samplers()[name](), [], time.monotonic() + patience
    try:
        sampler.setup(space, SearchProblem((Objective(),), max_step=1, seed=0, run="bench"))
        for number in range(trials):
            began = time.perf_counter()
            arch = sampler.ask(number)
            value = 90 + float(space.encode(arch).mean())
            trial = Trial(number, arch, arch, state=TrialState.COMPLETE)
            trial.measurements.append(Measurement(1, {"val_accuracy": value}))
            sampler.tell(trial)
            took.append(1000 * (time.perf_counter() - began))
            if time.monotonic() > deadline:
                return f"> {patience:.0f} s for {number + 1}"
    except (UserError, SpaceExhausted) as reason:
        return "cannot" if isinstance(reason, UserError) else "exhausted"
    return f"{statistics.median(took[-max(1, trials // 5) :]):.2f}"


def after(history: int, name: str, more: int = 100) -> list[float]:
    """Milliseconds of ask and tell for each of ``more`` trials after a history of random ones."""
    problem = SearchProblem((Objective(),), max_step=1, seed=0, run="bench")
    drawn, sampler = samplers()["random"](), samplers()[name]()
    drawn.setup(LONG, problem)
    sampler.setup(LONG, problem)
    sampler.replay([_complete(number, drawn.ask(number)) for number in range(history)])
    took = []
    for number in range(history, history + more):
        began = time.process_time()
        arch = sampler.ask(number)
        asked = time.process_time() - began
        trial = _complete(number, arch)
        began = time.process_time()
        sampler.tell(trial)
        took.append(1000 * (asked + time.process_time() - began))
    return took


def _complete(number: int, proposal: Architecture) -> Trial:
    arch = LONG.canonical(proposal)
    trial = Trial(number, proposal, arch, state=TrialState.COMPLETE)
    code = LONG.encode(arch)
    value = 90 + float(code.mean() - code[0] * code[-1])
    trial.measurements.append(Measurement(1, {"val_accuracy": value}))
    return trial


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for one figure")
    parser.add_argument("--smoke", action="store_true", help="few trials: does it run?")
    parser.add_argument("--after", type=int, help="replay so many trials first")
    parser.add_argument("--methods", nargs="+", default=["guided", "tpe"], help="with --after")
    given = parser.parse_args()
    if given.after is not None:
        print(f"ask + tell after {given.after} trials, {len(LONG.choices)} choices, ms of CPU\n")
        print("| sampler | median | mean | worst |\n|---|---|---|---|")
        for name in given.methods:
            took = after(given.after, name)
            cells = statistics.median(took), statistics.mean(took), max(took)
            print(f"| {name} |", *(f"{cell:.1f} |" for cell in cells), flush=True)
        return
    counts = (5, 10) if given.smoke else (100, 1000)
    print("ask + tell, ms, median of the last fifth\n")
    print("| sampler |", *(f"{s.name}, {n} trials |" for s in SPACES for n in counts))
    print("|---" * (1 + len(SPACES) * len(counts)) + "|")
    for name in samplers():
        cells = [milliseconds(name, s, n, given.patience) for s in SPACES for n in counts]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
