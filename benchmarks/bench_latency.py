"""Can a bound on latency be trusted in a search, where workers keep all cores busy?

Networks are timed beside one busy process per core, in turns by the clock and by the processor time
of their thread, which is how ``measure_latency`` times one thread on a CPU; and again with these
processes stopped. Expected: the clock counts the turns of others, processor time hardly (what is
left is the caches they share).
Then the table of layers: its error on networks that it was not fitted on, and what a network costs
by the table and by measuring it. Expected: a few percent, ranks nearly right, ten times as cheap.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from raynas.core import rng_for
from raynas.costs import LatencyTable, measure_latency
from raynas.spaces import ElasticResNet, NASBench201, SearchSpace

SHAPE = (3, 32, 32)


def networks(space: SearchSpace, count: int, seed: int) -> list[nn.Module]:
    rng = rng_for(seed, "bench_latency", space.name)
    return [space.build(space.sample_canonical(rng), SHAPE, 10) for _ in range(count)]


def burn() -> None:
    matrix = torch.randn(300, 300)
    while True:
        matrix @ matrix


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Others that compute meanwhile."""
    others = [multiprocessing.Process(target=burn, daemon=True) for _ in range(processes)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


@contextmanager
def by_the_clock() -> Iterator[None]:
    """``measure_latency`` as it times more than one thread."""
    kept = time.thread_time
    time.thread_time = time.perf_counter
    try:
        yield
    finally:
        time.thread_time = kept


def both(some: Sequence[nn.Module]) -> dict[str, list[float]]:
    """Milliseconds of each network, by both ways in turns."""
    found: dict[str, list[float]] = {"clock": [], "processor time": []}
    for network in some:
        with by_the_clock():
            found["clock"].append(measure_latency(network, SHAPE).median_ms)
        found["processor time"].append(measure_latency(network, SHAPE).median_ms)
    return found


def trust(count: int) -> None:
    some, cores = networks(ElasticResNet(), count, 0), os.cpu_count() or 1
    both(some[:1])
    alone = both(some)
    with busy(cores):
        crowded = both(some)
    print(
        f"\n{count} networks of elastic_resnet beside {cores} busy processes, over those without\n"
    )
    print("| timed by | median ratio (range) |\n|---|---|")
    for way in alone:
        ratios = np.array(crowded[way]) / np.array(alone[way])
        print(
            f"| {way} | {statistics.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f}) |"
        )


def table(count: int) -> None:
    print(f"\nTable of layers, fitted on {count} networks, judged by {count} others\n")
    print("| space | layers | error, median | worst | tau | by the table, ms | measured, ms |")
    print("|---|---|---|---|---|---|---|")
    for space in (ElasticResNet(), NASBench201(channels=8, cells=2)):
        fitted, judged = networks(space, count, 1), networks(space, count, 2)
        known = LatencyTable(SHAPE)
        known.fit(fitted)
        error = known.error(judged)  # from here on every layer of them is in the table
        costs = [
            1000 * seconds(way, judged) / count for way in (known.predict_ms, known.measure_ms)
        ]
        print(
            f"| {space.name} | {len(known)} | {error.median_percent:.1f} % | "
            f"{error.worst_percent:.1f} % | {error.tau:.2f} | {costs[0]:.0f} | {costs[1]:.0f} |"
        )


def seconds(way: Callable[[nn.Module], float], some: Sequence[nn.Module]) -> float:
    began = time.process_time()
    for network in some:
        way(network)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--smoke", action="store_true", help="seconds, numbers mean nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread")
    count = 3 if options.smoke else options.networks
    trust(count)
    table(count)


if __name__ == "__main__":
    main()
