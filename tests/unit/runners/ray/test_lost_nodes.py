"""Lost machines are told in one line each; Ray's own words go to a file."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from raynas.runners.ray.lost_nodes import LostMachines, RayWords, WordsInto, in_words
from raynas.runners.ray.runner import RayRunner


def node(name: str, alive: bool = True, label: str = "") -> dict[str, Any]:
    return {
        "NodeID": name,
        "Alive": alive,
        "NodeManagerAddress": f"10.0.0.{name[-1]}",
        "NodeName": label or f"10.0.0.{name[-1]}",
    }


@pytest.fixture
def told() -> list[str]:
    return []


def look(losses: LostMachines, *nodes: dict[str, Any]) -> None:
    """Twice: a lost machine is told of at the next look."""
    for _ in range(2):
        losses.look(nodes)


@pytest.fixture
def losses(told: list[str]) -> LostMachines:
    found = LostMachines(told.append)
    found.look([node("n1"), node("n2"), node("n3")])
    return found


def test_a_lost_machine_and_its_trials(losses: LostMachines, told: list[str]) -> None:
    for trial, place in ((4, "n2"), (3, "n1"), (7, "n2"), (7, "n2")):
        losses.heard(trial, place)
    assert told == []
    look(losses, node("n1"), node("n2", alive=False), node("n3"))
    assert told == ["machine 10.0.0.2 is lost: trials 4, 7 go on elsewhere"]
    look(losses, node("n1"), node("n2", alive=False), node("n3"))
    assert len(told) == 1


def test_a_machine_of_which_ray_says_nothing_any_more(
    losses: LostMachines, told: list[str]
) -> None:
    look(losses, node("n1"), node("n3"))
    assert told == ["machine 10.0.0.2 is lost: no trial was known to be there"]


def test_what_has_ended_or_left_is_not_named(losses: LostMachines, told: list[str]) -> None:
    losses.heard(1, "n2")
    losses.heard(2, "n2")
    losses.left(1)
    look(losses, node("n1"), node("n3"))
    assert told == ["machine 10.0.0.2 is lost: trial 2 goes on elsewhere"]


def test_a_trial_that_went_on_elsewhere_before_ray_gave_the_machine_up(
    losses: LostMachines, told: list[str]
) -> None:
    losses.heard(1, "n2")
    losses.heard(2, "n2")
    losses.heard(1, "n3")
    look(losses, node("n1"), node("n3"))
    assert told == ["machine 10.0.0.2 is lost: trials 1, 2 go on elsewhere"]
    look(losses, node("n1"))
    assert told[1:] == ["machine 10.0.0.3 is lost: trial 1 goes on elsewhere"]


def test_each_of_several_and_one_that_joined_later(losses: LostMachines, told: list[str]) -> None:
    look(losses, *[node(f"n{i}") for i in range(1, 5)])
    look(losses, node("n4", label="spot-7"))
    assert len(told) == 3
    look(losses, node("n4", alive=False))
    assert len(told) == 4
    look(losses, node("n5", label="spot-7"))
    look(losses)
    assert told[4:] == ["machine spot-7 (10.0.0.5) is lost: no trial was known to be there"]


@pytest.mark.parametrize(
    "words",
    [
        "The actor is dead because its node has died. Node Id: n2",
        "class_name: TrialActor\n\tpid: 7\n\tip: 10.0.0.2\nThe actor died unexpectedly",
    ],
)
def test_a_trial_that_had_not_said_anything_there(
    losses: LostMachines, told: list[str], words: str
) -> None:
    """Ray tells of the worker only after the machine was given up."""
    losses.died(8, "class_name: TrialActor\n\tip: 10.0.0.22\nThe actor died unexpectedly")
    losses.look([node("n1"), node("n3")])
    losses.died(9, words)
    losses.look([node("n1"), node("n3")])
    assert told == ["machine 10.0.0.2 is lost: trial 9 goes on elsewhere"]


def test_a_worker_that_crashed_and_went_on_on_the_same_machine(
    losses: LostMachines, told: list[str]
) -> None:
    losses.died(9, "ip: 10.0.0.2\nworker process has died")
    losses.heard(9, "n2")
    losses.left(9)
    look(losses, node("n1"), node("n3"))
    assert told == ["machine 10.0.0.2 is lost: no trial was known to be there"]


def test_what_is_lost_right_before_the_end_is_told(told: list[str]) -> None:
    import threading

    looked = threading.Event()

    def nodes() -> list[dict[str, Any]]:
        found = [] if looked.is_set() else [node("n1")]
        looked.set()
        return found

    losses = LostMachines(told.append)
    losses.watch(nodes)
    assert looked.wait(30)
    losses.look([])
    losses.close()
    assert told == ["machine 10.0.0.1 is lost: no trial was known to be there"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "no trial was known to be there"),
        (1, "trial 0 goes on elsewhere"),
        (8, "trials 0, 1, 2, 3, 4, 5, 6, 7 go on elsewhere"),
        (10, "trials 0, 1, 2, 3, 4, 5, 6, 7 and 2 more go on elsewhere"),
    ],
)
def test_trials_in_words(count: int, words: str) -> None:
    assert in_words(range(count)) == words


def test_watching_goes_on_after_a_look_that_failed(told: list[str]) -> None:
    import threading

    looks, enough = list[int](), threading.Event()

    def nodes() -> list[dict[str, Any]]:
        looks.append(len(looks))
        if len(looks) == 2:
            raise RuntimeError("Ray does not answer")
        if len(looks) == 4:
            enough.set()
        return [node("n1")] if len(looks) == 1 else []

    losses = LostMachines(told.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raynas.runners.ray.lost_nodes._PERIOD", 0.0)
        losses.watch(nodes)
        assert enough.wait(30)
    losses.close()
    losses.close()
    assert told == ["machine 10.0.0.1 is lost: no trial was known to be there"]


def test_rays_words_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import worker

    own, file = worker.print_to_stdstream, tmp_path / "logs" / "ray.log"
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    data = {"lines": ["The node\nhas been marked dead"], "pid": "raylet", "is_err": False}
    with WordsInto(file):
        assert not file.exists()
        worker.print_to_stdstream(data, ignore_prefix=False)
    assert worker.print_to_stdstream is own
    worker.print_to_stdstream(data, ignore_prefix=False)
    assert "(raylet) The node\nhas been marked dead\n" in file.read_text()
    assert out.getvalue().count("marked dead") == 1


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    RayWords(tmp_path / "file" / "ray.log")({"lines": ["x"]})


def test_rays_listener_takes_the_function_by_its_name() -> None:
    """What is replaced is what Ray calls: the name is looked up at each message."""
    from ray._private import worker

    assert "print_to_stdstream" in worker.listen_error_messages.__code__.co_names


def test_it_is_pickled_with_the_runner_that_holds_it(losses: LostMachines) -> None:
    import pickle

    runner = RayRunner(address="auto", losses=losses, log=Path("ray.log"))
    with WordsInto(Path("ray.log")) as _:
        assert pickle.loads(pickle.dumps(runner)).log == Path("ray.log")
    assert pickle.loads(pickle.dumps(WordsInto(Path("ray.log"))))
