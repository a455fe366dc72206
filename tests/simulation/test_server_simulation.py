"""A server and the actors of a search, under everything that a seed can do to them."""

from __future__ import annotations

import random

import pytest
from repetition import more
from simulation.actors_world import ActorsWorld
from simulation.server_world import World, check
from simulation.sim_threads import SimulatedCondition, SimulatedThread, Simulator, Violation

SERVERS, SEARCHES = 1500, 1000
PARTS = [0, 1, *more(2, 3, 4)]
FIVE_IN_A_ROW = 105018
"""A seed in which so many workers die before they are ready, one after the other."""


@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_each_request_is_answered_and_the_server_lives(part: int) -> None:
    wrong = {seed: said for seed in range(part, SERVERS, 5) if (said := check(seed))}
    assert wrong == {}


@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_each_trial_on_actors_ends_once_and_has_no_hole(part: int) -> None:
    wrong = {seed: said for seed in range(part, SEARCHES, 5) if (said := check(seed, "actors"))}
    assert wrong == {}


def test_a_server_gives_up_after_five_workers_in_a_row_and_not_before() -> None:
    world = World(FIVE_IN_A_ROW)
    world.run()
    assert world.ray.hopeless
    assert "doom" in world.reached
    calm = World(7)
    calm.run()
    assert not calm.ray.hopeless


def test_a_seed_is_the_same_world_again() -> None:
    for kind in (World, ActorsWorld):
        worlds = [kind(7), kind(7)]
        for world in worlds:
            world.run()
        one, other = worlds
        assert one.simulator.steps == other.simulator.steps > 10
        assert one.simulator.now == other.simulator.now
        assert one.rng.random() == other.rng.random()


def test_the_worlds_have_what_they_are_for() -> None:
    """Else nothing is shown by seeds that are clean."""
    reached, deaths = set[str](), 0
    for seed in range(60):
        world = World(seed)
        world.run()
        reached |= world.reached
        deaths += world.ray.deaths
    assert reached == {"doom", "failed"}
    assert deaths > 20


def simulator(seed: int = 0, limit: int = 1000) -> Simulator:
    return Simulator(random.Random(seed), limit=limit)


def test_who_waits_for_ever_is_named() -> None:
    sim = simulator()
    room = SimulatedCondition(sim)

    def wait() -> None:
        with room:
            room.wait()

    with pytest.raises(Violation, match="these wait for ever: a caller"):
        sim.run(sim.spawn("a caller", wait))


def test_what_never_ends_is_found() -> None:
    sim = simulator()

    def spin() -> None:
        while True:
            sim.sleep(1.0)

    with pytest.raises(Violation, match="it does not end: 1000 steps"):
        sim.run(sim.spawn("spins", spin))


@pytest.mark.parametrize("seed", range(20))
def test_one_thread_at_a_time_has_the_lock(seed: int) -> None:
    sim = simulator(seed)
    room, inside, turns = SimulatedCondition(sim), list[str](), list[str]()

    def work(name: str) -> None:
        for _ in range(3):
            with room, room:
                inside.append(name)
                sim.sleep(1.0)
                assert inside == [name]
                inside.clear()
                turns.append(name)
                room.notify_all()
                room.wait(0.5)

    def main() -> None:
        threads = [SimulatedThread(sim, work, (name,), name) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(thread.is_alive() for thread in threads)

    sim.run(sim.spawn("main", main))
    assert sorted(turns) == [*"aaabbb"]


def test_an_interrupt_reaches_who_waits_and_the_lock_is_free_afterwards() -> None:
    sim = simulator()
    room, heard = SimulatedCondition(sim), list[str]()

    def wait() -> None:
        try:
            with room:
                room.wait()
        except KeyboardInterrupt:
            heard.append("interrupted")

    def main() -> None:
        waiting = sim.spawn("a caller", wait)
        sim.block(lambda: waiting.interruptible)
        waiting.interrupt = KeyboardInterrupt()
        sim.block(lambda: waiting.done)
        with room:
            heard.append("free")

    sim.run(sim.spawn("main", main))
    assert heard == ["interrupted", "free"]
