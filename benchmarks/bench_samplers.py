"""What does one proposal cost? Ask and tell of every sampler, after 100 and 1,000 trials.

On NAS-Bench-201 (6 choices of 5) and an elastic ResNet (24 ordered choices), a made-up smooth
objective, all trials complete. Expected: random and evolution below a millisecond or two, TPE
tens of milliseconds, GP hundreds, which is why fast evaluators want evolution or batches.
"cannot": the sampler refuses the space (CMA-ES needs ordered choices).
"""

from __future__ import annotations

import argparse
import statistics
import time

from raynas.core import (
    Measurement,
    Objective,
    Problem,
    SpaceExhausted,
    Trial,
    TrialState,
    UserError,
)
from raynas.samplers import samplers
from raynas.spaces import ElasticResNet, NASBench201, SearchSpace

SPACES: tuple[SearchSpace, ...] = (NASBench201(), ElasticResNet())


def milliseconds(name: str, space: SearchSpace, trials: int, patience: float) -> str:
    """Median over the last fifth of ``trials``, or why there is none."""
    sampler, took, deadline = samplers()[name](), [], time.monotonic() + patience
    try:
        sampler.setup(space, Problem((Objective(),), max_step=1, seed=0, run="bench"))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for one figure")
    parser.add_argument("--smoke", action="store_true", help="few trials: does it run?")
    given = parser.parse_args()
    counts = (5, 10) if given.smoke else (100, 1000)
    print("ask + tell, ms, median of the last fifth\n")
    print("| sampler |", *(f"{s.name}, {n} trials |" for s in SPACES for n in counts))
    print("|---" * (1 + len(SPACES) * len(counts)) + "|")
    for name in samplers():
        cells = [milliseconds(name, s, n, given.patience) for s in SPACES for n in counts]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
