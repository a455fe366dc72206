"""Worlds in which a seed decides all that can happen to the actors of a search.

The real search, its jobs and the crew run on a simulated Ray: workers die, hang, are lost together,
or say what nobody asked, while schedulers stop, pause and promote trials.

* every trial ends once, and its rows are a curve without holes, each step once;
* no trial fails that had not begun on as many workers that died as its retries allow, and none is
  evaluated by more;
* the search ends, unless workers cannot be set up any more, which it says.

    python tests/simulation/server_world.py --world actors --seeds 100000
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from integration.toy_runs import Script, Table, search
from simulation.server_world import SIGNS_LOST, draw_faults, in_place, some
from simulation.sim_ray import SimulatedRay
from simulation.sim_threads import Simulator, Threading, Violation
from toys import Curves, ToyData, ToySpace

from raynas.core import Architecture, Job, UserError
from raynas.runners.base import JobOutcome, Resources, steps_of_many
from raynas.runners.ray.actor_pool import ActorPool
from raynas.runners.ray.actors import ActorRunner
from raynas.runners.ray.shared_context import SharedContext
from raynas.schedulers.asha import ASHA
from raynas.schedulers.none import NoStopping
from raynas.schedulers.promotion import PromotionASHA

SPACE, VIEW = ToySpace(), ToyData().search_view(0)
TEXTS = [arch.text for arch in SPACE.enumerate()]


class ActorsWorld:
    """One search on actors."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.patience = rng.choice([None, None, rng.uniform(20, 60)])
        self.faults = draw_faults(rng, hangs=self.patience is not None)
        texts = rng.sample(TEXTS, rng.randint(1, 14))
        self.guilty = frozenset(rng.sample(texts, some(rng, min(len(texts), 2), 0.25)))
        self.resources = Resources(
            concurrent=rng.randint(1, 4), retries=rng.randint(0, 3), patience=self.patience
        )
        steps = rng.randint(1, 4)
        crash = rng.sample(texts, some(rng, min(len(texts), 3), 0.3))
        kinds = ["crash", "short", "nan", "memory", "tight"]
        self.evaluator = Curves(max_step=steps, fault={text: rng.choice(kinds) for text in crash})
        self.evaluator.setup(SPACE, VIEW)
        schedulers: list[Any] = [
            NoStopping(),
            ASHA(min_step=1, factor=2),
            PromotionASHA(min_step=1, factor=2),
        ]
        self.pausing = rng.randrange(3) if steps > 1 else 0
        self.rows = Table()
        self.work = search(
            Script(texts), self.evaluator, self.rows, scheduler=schedulers[self.pausing]
        )
        self.interrupted_at = rng.uniform(0, 10) if rng.random() < 0.1 else math.inf
        self.simulator = Simulator(rng)
        self.ray = SimulatedRay(
            self.simulator,
            self.faults,
            guilty=lambda arch: arch.text in self.guilty,
            outcomes=self._outcomes,
            seconds=rng.choice([0.001, 0.02, 0.5, 2.0]),
        )
        self.ray.once = False  # a trial may be given out again after a pause
        self.reached: set[str] = set()

    def run(self) -> None:
        """Raises: Violation, with what went wrong."""
        with in_place(self.simulator, self.ray, Threading(self.simulator)):
            main = self.simulator.spawn("search", self._main)
            if self.interrupted_at < math.inf:
                self.simulator.at(self.interrupted_at, self.work.interrupt)
            self.simulator.run(main)

    def _main(self) -> None:
        runner: Any = SimpleNamespace(open=lambda: None, resources=self.resources, hire=self._hire)
        try:
            ActorRunner.run(runner, self.work)
        except UserError as error:
            if not self.ray.hopeless:
                raise Violation(f"the search ended though workers can be hired: {error}") from None
            self.reached.add("doom")
            self._check_rows()
            return
        if not self.work.interrupted:
            self._check_ends()
        self._check_rows()

    def _hire(self, payload: Any, *, ahead: bool, patience: float | None) -> ActorPool:
        size = self.resources.concurrent
        assert size is not None
        shared = SharedContext(payload.space, payload.evaluator, None)
        return ActorPool(
            shared,
            {"num_cpus": 1.0, "num_gpus": 0.0},
            lambda: size,
            retries=self.resources.retries,
            ahead=ahead,
            patience=patience,
        )

    def _outcomes(
        self, arch: Architecture, job: Job, _shared: Any, _actor: int
    ) -> Sequence[JobOutcome]:
        return [outcome for _, outcome in steps_of_many(self.evaluator, [(arch, job)])]

    def _check_ends(self) -> None:
        if not self.work.done:
            raise Violation("the search is not done")
        for number, trial in self.work.trials.items():
            if not trial.state.ended:
                raise Violation(f"trial {number} is {trial.state}")

    def _check_rows(self) -> None:
        ray, retries = self.ray, self.resources.retries
        curves: dict[int, list[Any]] = defaultdict(list)
        for row in self.rows:
            curves[row["trial"]].append(row)
        for number, rows in curves.items():
            steps = [row["step"] for row in rows if row.get("val_accuracy") is not None]
            if steps != list(range(1, len(steps) + 1)):
                raise Violation(f"trial {number} has the steps {steps}")
            ends = [row for row in rows if row["state"] != "RUNNING"]
            if len(ends) > 1 or (ends and ends[0] is not rows[-1]):
                raise Violation(f"trial {number} ends more than once: {[r['state'] for r in ends]}")
            if ends and str(ends[0]["message"]).startswith("its worker died"):
                self.reached.add("failed")
                blame = ray.blameable(number, SIGNS_LOST)
                if blame < min(retries + 1, 2):
                    raise Violation(
                        f"trial {number} was given up for {blame} workers that died under it: "
                        f"{ends[0]['message']}"
                    )
        for number, deaths in ray.deaths_under.items():
            most = max(retries + 1, 2) + min(ray.unheard[number], SIGNS_LOST)
            if deaths > most:
                raise Violation(f"{deaths} workers died under trial {number}, {most} may")


def run_seed(seed: int) -> str:
    """What goes wrong with a seed; empty when nothing does."""
    from simulation.server_world import check

    return check(seed, "actors")


def replay(seed: int) -> list[str]:
    """Play one world, and tell how it ends."""
    from simulation import server_world

    return server_world.replay(seed, "actors")
