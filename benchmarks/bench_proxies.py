"""How many architectures a second do proxies score? NASWOT beside the procedure as published.

The published procedure (Mellor et al. 2021): a forward pass, a backward pass that marks the ReLUs
it visits, a second forward pass in which every marked ReLU adds two matrix products to K; NCHW,
every ReLU counted, then the log-determinant. Both sides score the same random cells of
NAS-Bench-201 with the same weights, in turns, one thread, and must agree. Times are CPU time, so
that a neighbour's work counts little; memory is kept between passes (``keep_memory``) for both.
Bars: NASWOT ten times as fast; its passes reach 60 % of a large matrix product's multiply-adds a
second; all proxies together cost at most three times the dearest alone. Building networks is not
counted on either side; its own line says what it costs.
Where there is a GPU, both sides once more on it, by the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core import Architecture, rng_for
from raynas.proxies import NASWOT, Batch, Proxy, proxies, score
from raynas.spaces import NASBench201
from raynas.spaces.nasbench201.network import Cell
from raynas.spaces.nasbench201.operations import NONE

SPACE = NASBench201()
DENSE = SPACE.architecture(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


# -- the procedure as published ----------------------------------------------------------------


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


def as_published(network: nn.Module) -> nn.Module:
    """The network with its ``none`` edges computed, as the authors' does; the rest is equal."""
    for cell in (m for m in network.modules() if isinstance(m, Cell)):
        for edge, name in enumerate(cell.operations):
            if name == NONE:
                cell.layers[edge] = Zero()
        cell.operations = tuple("zero" if name == NONE else name for name in cell.operations)
    return network


class Counter:
    """K, filled by hooks on the modules that have "ReLU" in their class's name."""

    def __init__(self, network: nn.Module, images: int) -> None:
        self.kernel = np.zeros((images, images))
        self._visited: set[nn.Module] = set()
        relus = [m for m in network.modules() if "ReLU" in type(m).__name__]
        self.handles = [m.register_forward_hook(self._count) for m in relus]
        self.handles += [m.register_full_backward_hook(self._mark) for m in relus]

    def _mark(self, module: nn.Module, _into: object, _out: object) -> None:
        self._visited.add(module)

    def _count(self, module: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        if module not in self._visited:
            return
        c = (inputs[0].reshape(len(inputs[0]), -1) > 0).float()
        on, off = c @ c.t(), (1.0 - c) @ (1.0 - c.t())
        self.kernel = self.kernel + on.cpu().numpy() + off.cpu().numpy()


def published(network: nn.Module, batch: Batch) -> float:
    """NASWOT of a network from :func:`as_published`."""
    network.train()
    network.zero_grad()
    counter = Counter(network, len(batch))
    images = batch.images.clone().requires_grad_(True)
    logits = network(images)
    logits.backward(torch.ones_like(logits))
    network(images.detach().clone())
    for handle in counter.handles:
        handle.remove()
    return float(np.linalg.slogdet(counter.kernel)[1])


# -- measuring ---------------------------------------------------------------------------------


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """CPU time of this process; on a GPU the clock, once it is through."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def random_batch(images: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (images,), generator=generator)
    return Batch(torch.randn(images, 3, 32, 32, generator=generator), labels)


def random_cells(count: int) -> list[Architecture]:
    """Canonical ones whose input reaches the output; the first ``count`` of one seed."""
    found: list[Architecture] = []
    rng = rng_for(0, "bench_proxies")
    while len(found) < count:
        arch = SPACE.canonical(SPACE.sample(rng))
        if "naswot" in score(built(arch), random_batch(4), (NASWOT(),)).values:
            found.append(arch)
    return found


def built(arch: Architecture, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    return SPACE.build(arch).to(device)


def ours(arch: Architecture, batch: Batch, device: str = "cpu") -> float:
    network = built(arch, device)
    return seconds(lambda: score(network, batch, (NASWOT(),)), device)


def theirs(arch: Architecture, batch: Batch, device: str = "cpu") -> float:
    network = as_published(built(arch, device))
    return seconds(lambda: published(network, batch), device)


def giga_macs(archs: Sequence[Architecture], images: int) -> float:
    return sum(SPACE.costs(arch, (3, 32, 32), 10).macs for arch in archs) * images / 1e9


# -- questions ---------------------------------------------------------------------------------


def check(archs: Sequence[Architecture], batch: Batch, device: str) -> None:
    """Both sides give one score. This is the warm-up, too."""
    for arch in archs:
        mine = NASWOT()(built(arch, device), batch)
        reference = published(as_published(built(arch, device)), batch)
        if not abs(mine - reference) < 1e-3 * abs(reference):
            raise SystemExit(f"{arch.text}: {mine} here, {reference} by the published procedure")


def speed(archs: Sequence[Architecture], batch: Batch, rounds: int, device: str) -> None:
    """NASWOT, cell by cell in turns with the published procedure."""
    batch = batch.to(device)
    check(archs, batch, device)
    pairs = np.array([
        [(ours(arch, batch, device), theirs(arch, batch, device)) for arch in archs]
        for _ in range(rounds)
    ])  # fmt: skip
    print(f"\nNASWOT, {len(archs)} cells, {len(batch)} images, {device}, {rounds} rounds\n")
    print("| side | cells a second (range) |\n|---|---|")
    for name, took in (("published procedure", pairs[..., 1]), ("raynas", pairs[..., 0])):
        print(f"| {name} | {spread(len(archs) / took.sum(axis=1))} |")
    ratios = pairs[..., 1].sum(axis=1) / pairs[..., 0].sum(axis=1)
    single = pairs[..., 1].min(axis=0) / pairs[..., 0].min(axis=0)
    print(f"| ratio | {spread(ratios)} |\n| of single cells | {spread(single)} |")
    verdict("NASWOT at least 10 times as fast", float(np.median(ratios)), 10)


def efficiency(archs: Sequence[Architecture], batch: Batch, rounds: int, side: int) -> None:
    """Multiply-adds a second of the networks, the patterns' comparison not counted as such."""
    matrix = torch.randn(side, side)
    rates: dict[str, list[float]] = {"matrix product": [], "random cells": [], "six 3x3": []}
    for _ in range(rounds):
        product = min(seconds(lambda: matrix @ matrix) for _ in range(3))
        rates["matrix product"].append(side**3 / 1e9 / product)
        for name, some in (("random cells", archs), ("six 3x3", [DENSE])):
            took = sum(ours(arch, batch) for arch in some)
            rates[name].append(giga_macs(some, len(batch)) / took)
    building = seconds(lambda: [built(arch) for arch in archs]) / len(archs)
    print(f"\n10^9 multiply-adds a second; the product is of {side} x {side} matrices, float32\n")
    print("| what | rate (range) | of the product's |\n|---|---|---|")
    peak = statistics.median(rates["matrix product"])
    for name, found in rates.items():
        print(f"| {name} | {spread(found)} | {statistics.median(found) / peak:.0%} |")
    for name in ("random cells", "six 3x3"):
        share = statistics.median(rates[name]) / peak
        verdict(f"{name}: at least 60 % of the product's", 100 * share, 60)
    print(f"Building a network (not counted above): {1000 * building:.0f} ms")


def together(archs: Sequence[Architecture], batch: Batch) -> None:
    """Every proxy alone, and all at once."""
    every: list[Proxy] = [cls() for cls in proxies().values()]
    alone = {p.name: sum(_all(arch, batch, [p]) for arch in archs) for p in every}
    both = sum(_all(arch, batch, every) for arch in archs)
    print(f"\n{len(every)} proxies, {len(archs)} cells, {len(batch)} images, CPU seconds a cell\n")
    print("| proxy | alone |\n|---|---|")
    for name, took in sorted(alone.items(), key=lambda item: -item[1]):
        print(f"| {name} | {took / len(archs):.3f} |")
    print(f"| sum | {sum(alone.values()) / len(archs):.3f} |")
    print(f"| all together | {both / len(archs):.3f} |")
    verdict("all together at most 3 times the dearest", -both / max(alone.values()), -3)


def _all(arch: Architecture, batch: Batch, some: Sequence[Proxy]) -> float:
    network = built(arch)
    return seconds(lambda: score(network, batch, some))


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def verdict(bar: str, found: float, least: float) -> None:
    print(f"\n{bar}: {abs(found):.1f}, {'met' if found >= least else 'NOT met'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", type=int, default=10, help="random cells of NAS-Bench-201")
    parser.add_argument("--rounds", type=int, default=3, help="of both sides in turns")
    parser.add_argument("--smoke", action="store_true", help="few and small: does it run?")
    given = parser.parse_args()
    cells, rounds, images, side = given.cells, given.rounds, 128, 2048
    if given.smoke:
        cells, rounds, images, side = 1, 1, 8, 64
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    archs, batch = random_cells(cells), random_batch(images)
    speed(archs, batch, rounds, "cpu")
    efficiency(archs, batch, rounds, side)
    together(archs[:2], random_batch(max(4, images // 2)))
    if torch.cuda.is_available():
        speed(archs, batch, rounds, "cuda")


if __name__ == "__main__":
    main()
