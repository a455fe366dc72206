"""Which machine gets a worker, who answers, and what is asked again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from raynas.core import UserError
from raynas.runners.base import Resources
from raynas.runners.ray import nodes as machines
from raynas.runners.ray.cluster import ClusterRunner
from raynas.runners.ray.nodes import CachedQuery, answering, freest, known


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


HEAD = node("head", memory=1.0)
GONE = node("gone", alive=False, CPU=64.0)
FARM = [HEAD, GONE, node("cpu-4", CPU=4.0), node("cpu-2", CPU=2.0), node("gpu", CPU=8.0, GPU=1.0)]


class FakeRay:
    """``lost``: machines that are taken for alive and answer nobody."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, nodes: list[dict[str, Any]], lost: str = "", silent: str = "") -> None:
        self.found, self.lost, self.silent, self.asked = nodes, lost, silent, 0

    def nodes(self) -> list[dict[str, Any]]:
        return self.found

    def remote(self, _function: Any) -> Any:
        return self

    def options(self, scheduling_strategy: Any, **_options: Any) -> Any:
        return SimpleNamespace(remote=lambda: self._ask(scheduling_strategy.node_id))

    def _ask(self, place: str) -> str:
        self.asked += 1
        return place

    def wait(self, asked: list[str], *, num_returns: int, timeout: float) -> Any:
        return [place for place in asked if place != self.silent], []

    def get(self, place: str) -> int:
        if place == self.lost:
            raise RuntimeError("node has died")
        return 1


def fake(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any], **more: str) -> FakeRay:
    ray = FakeRay(list(nodes), **more)
    monkeypatch.setattr(machines, "ray", ray)
    monkeypatch.setattr(machines, "only_on", lambda node: SimpleNamespace(node_id=node))
    return ray


def test_workers_that_book_nothing_are_spread_by_cpus_and_keep_off_the_gpus_and_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch, *FARM)
    taken: Counter[str] = Counter()
    for _ in range(12):
        where = freest(taken, gpus=False)
        assert where is not None
        taken[where] += 1
    assert taken == {"cpu-4": 8, "cpu-2": 4}
    assert freest(taken, gpus=True) == "gpu"


def test_where_no_machine_is_better_any_with_cpus_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, HEAD, node("gpu", CPU=8.0, GPU=1.0))
    assert freest({}, gpus=False) == "gpu"
    fake(monkeypatch, HEAD, node("cpu", CPU=8.0))
    assert freest({}, gpus=True) == "cpu"
    fake(monkeypatch, HEAD, GONE)  # workers come later
    assert freest({}, gpus=False) is None


@pytest.mark.parametrize("how", ["lost", "silent"])
def test_a_machine_that_ray_has_not_given_up_yet_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    fake(monkeypatch, *FARM, **{how: "cpu-2"})
    assert known() == {"head", "cpu-4", "cpu-2", "gpu"}
    assert answering() == {"head", "cpu-4", "gpu"}


def test_the_only_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = fake(monkeypatch, GONE, node("here", CPU=2.0), lost="here")
    assert answering() == {"here"}
    assert ray.asked == 0


def test_what_is_recent_is_asked_again_after_a_while() -> None:
    counts = iter([2, 0, 5])
    at_once = CachedQuery(lambda: next(counts), period=0.0)
    assert [at_once(), at_once(), at_once()] == [2, 0, 5]
    asked = iter([2, 9])
    seldom = CachedQuery(lambda: next(asked), period=60.0)
    assert [seldom(), seldom()] == [2, 2]


@dataclass
class Bare(ClusterRunner):
    """Runs nothing."""

    def run(self, work: Any) -> None:
        raise AssertionError("nothing is run")


def test_what_is_asked_for_is_all_that_a_trial_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it left something out, there would be room for it where there is none for a trial."""
    fake(monkeypatch, HEAD, node("gpu", CPU=8.0, GPU=1.0, memory=16e9))
    runner = Bare(Resources(cpus=2, gpus=0.25, memory=6))
    runner._gpus = 0.25
    assert runner._bundle(1) == {"CPU": 2.0, "GPU": 0.25, "memory": 6e9}
    assert Bare(Resources(cpus=2))._bundle(3) == {"CPU": 6.0, "GPU": 0.0}
    with pytest.raises(UserError, match=r"2 processes .* need 2 CPUs and 17 GB of memory on one"):
        Bare(Resources(memory=17))._bundle(2)


def test_where_an_autoscaler_brings_machines_none_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = {**HEAD, "Labels": {"ray.io/node-group": "head"}}
    fake(monkeypatch, head)
    assert Bare(Resources(), "auto")._bundle(64) == {"CPU": 64.0, "GPU": 0.0}
    with pytest.raises(UserError, match="64 processes that train together need 64 CPUs"):
        Bare(Resources())._bundle(64)
    for told in (None, "fit"):
        with pytest.raises(UserError, match=rf"resources\.gpus={told}, but no machine is up yet"):
            Bare(Resources(gpus=told), "auto")._check_gpus()
    Bare(Resources(gpus=0.0), "auto")._check_gpus()
    fake(monkeypatch, head, node("cpu", CPU=2.0))
    Bare(Resources(), "auto")._check_gpus()
