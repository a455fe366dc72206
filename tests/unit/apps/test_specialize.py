"""Networks for any budget: which one is picked, what is said without one, what is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from commands import done, experiment_file, raynas
from toys import ToySpace

from raynas.apps.specialize import MEASURED, parse_bounds, pick, ranking
from raynas.core import Bound, Measurement, Trial, TrialState, UserError
from raynas.pipeline.history import equipped, reload
from raynas.store import RunFolder, read
from raynas.supernet.weights import load_weights
from raynas.training import load_network

pytestmark = pytest.mark.usefixtures("undrawn")


def trials(*facts: tuple[float, float]) -> list[Trial]:
    """Accuracy and params of each."""
    space = ToySpace(depth=max(len(facts), 6))
    made = []
    for k, (accuracy, params) in enumerate(facts):
        arch = space.architecture({"x": k, "y": 0, "op": "a"})
        m = [Measurement(1, {"val_accuracy": accuracy})]
        made.append(Trial(k, arch, arch, state=TrialState.COMPLETE, measurements=m,
                          costs={"params": params}))  # fmt: skip
    return made


def never(_text: str) -> float:
    raise AssertionError("measured though nobody asked")


RANKED = trials((90, 900), (80, 500), (70, 300), (60, 100))


@pytest.mark.parametrize(
    ("bounds", "top", "wanted"),
    [
        ((), 1, [0]),
        ((Bound("params", max=500),), 1, [1]),
        ((Bound("params", max=500),), 3, [1, 2, 3]),
        ((Bound("params", min=200, max=400),), 3, [2]),
        ((Bound("val_accuracy", max=75), Bound("params", min=200)), 2, [2]),
    ],
)
def test_the_best_within_bounds(bounds: Sequence[Bound], top: int, wanted: list[int]) -> None:
    assert [t.number for t in pick(RANKED, bounds, top, never, "RUN")] == wanted


def test_when_nothing_fits_the_nearest_is_named() -> None:
    with pytest.raises(UserError, match=r"params <= 90; of 4 the nearest is x=3,.* params=100;"):
        pick(RANKED, (Bound("params", max=90),), 1, never, "RUN")
    both = (Bound("params", max=850), Bound("val_accuracy", min=89))
    with pytest.raises(UserError, match=r"the nearest is x=0,.* params=900, val_accuracy=90;"):
        pick(RANKED, both, 1, never, "RUN")
    with pytest.raises(UserError, match=r"bound on 'prams'; expected: latency_ms, params, val_acc"):
        pick(RANKED, (Bound("prams", max=1),), 1, never, "RUN")
    with pytest.raises(UserError, match="has no completed evaluation"):
        pick([], (), 1, never, "RUN")


def test_latency_is_measured_only_where_all_else_fits() -> None:
    asked: list[str] = []

    def latency(text: str) -> float:
        asked.append(text)
        (trial,) = [t for t in RANKED if t.arch.text == text]
        return trial.costs["params"] / 100

    bounds = (Bound("params", max=600), Bound("latency_ms", max=3.5))
    (found,) = pick(RANKED, bounds, 1, latency, "RUN")
    assert (found.number, asked) == (2, [RANKED[1].arch.text, RANKED[2].arch.text])
    assert found.values()["latency_ms"] == 3.0
    assert "latency_ms" not in RANKED[2].costs
    with pytest.raises(UserError, match=r"of 4 the nearest is x=3,.*latency_ms=1;"):
        pick(RANKED, (Bound("latency_ms", max=0.5),), 1, latency, "RUN")


def test_latency_is_measured_so_often_at_most() -> None:
    asked: list[str] = []

    def slow(text: str) -> float:
        asked.append(text)
        return 9.0 - len(asked) / 1000

    many = trials(*((float(-k), 1.0) for k in range(MEASURED + 20)))
    with pytest.raises(UserError, match=f"of {MEASURED} the nearest is x={MEASURED - 1},"):
        pick(many, (Bound("latency_ms", max=1),), 1, slow, "RUN")
    assert len(asked) == MEASURED


def test_bounds_as_they_are_typed() -> None:
    found = parse_bounds(["params=1e3"], ["params=5e5", "latency_ms = 2"])
    assert found == (Bound("params", min=1e3, max=5e5), Bound("latency_ms", max=2))
    assert found[1].min == -math.inf
    for least, most, told in (
        ([], ["params"], "--max params; expected: METRIC=NUMBER"),
        (["macs=x"], [], "--min macs=x"),
        (["macs=nan"], [], "--min macs=nan"),
        (["=3"], [], "--min =3"),
        (["params=2"], ["params=1"], "no value satisfies the bound"),
    ):
        with pytest.raises(UserError, match=told):
            parse_bounds(least, most)


# -- a real one ----------------------------------------------------------------------------------

HEAD = """
from raynas.spaces import ElasticResNet
SPACE = ElasticResNet(((8, 16),), (1,), depths=(1, 2), kernels=(3,), expansions=(0.5, 1.0))
RECIPE = Recipe(epochs=2, batch_size=50)
"""
PARTS = {
    "space": "SPACE",
    "data": "Digits(subset=160)",
    "evaluator": "Inherited(TrainSupernet(RECIPE, look_images=20, look_calibration=20), 40)",
    "scheduler": "NoStopping()",
    "baselines": "(RegularizedEvolution(3, 2),)",
    "budget": "Budget(8)",
    "finalists": "Finalists(top=0)",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("special")
    file = experiment_file(folder / "small.py", HEAD, **PARTS)
    done("run", file, "--local", "--output", folder / "run")
    return folder / "run"


def test_all_arms_are_ranked_once(run: Path) -> None:
    folder = RunFolder.open(run)
    experiment = reload(folder).experiment
    ranked = ranking(folder, experiment)
    rows = [r for r in read(folder).to_pylist() if r["stage"] == "search"]
    assert {t.arch.text for t in ranked} == {r["arch"] for r in rows}
    assert len({r["arm"] for r in rows}) == 2
    values = [t.values()["val_accuracy"] for t in ranked]
    assert values == sorted(values, reverse=True)
    sizes = [(-t.values()["val_accuracy"], t.costs["params"]) for t in ranked]
    assert sizes == sorted(sizes)  # of equals the smallest first
    assert len(ranked) == len({t.arch.id for t in ranked})


def test_what_is_taken_out_is_what_the_search_measured(run: Path) -> None:
    """Its weights are the supernet's, and it answers the validation images as stored."""
    printed = done("specialize", run, "--max", "params=1500", "--max", "latency_ms=1000")
    (place,) = (run / "specialized").iterdir()
    told = json.loads((place / "architecture.json").read_text())
    folder = RunFolder.open(run)
    experiment = equipped(folder, reload(folder).experiment)
    ranked = ranking(folder, experiment)
    wanted = next(t for t in ranked if t.costs["params"] <= 1500)
    assert told["arch"] == wanted.arch.text
    assert told["costs"]["params"] == wanted.costs["params"] <= 1500
    assert 0 < told["costs"]["latency_ms"] < 1000
    assert told["weights"] == experiment.evaluator.weights_version()
    assert str(place / "network.safetensors") in printed
    assert "latency now: " in printed
    assert "threads 1" in printed

    space, shape = experiment.space, tuple(told["input_shape"])
    network = space.build(wanted.arch, shape, 10)
    load_network(place / "network.safetensors", network)
    assert sum(p.numel() for p in network.parameters()) == wanted.costs["params"]
    supernet = space.supernet(shape, 10)
    load_weights(folder.supernet, supernet)
    inherited = dict(supernet.extract(wanted.arch).named_parameters())
    for name, weight in network.named_parameters():
        assert torch.equal(weight, inherited[name]), name
    view = experiment.data.search_view(experiment.seed)
    pixels = torch.tensor(view.held_out.pixels).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (view.mean, view.std))
    images = (pixels - mean) / std
    with torch.inference_mode():
        found = network.eval()(images).argmax(1).numpy()
    accuracy = 100 * (found == view.held_out.labels).mean()
    assert accuracy == pytest.approx(wanted.values()["val_accuracy"], abs=100 / len(found) + 1e-6)


def test_the_best_network_is_the_inherited_one_without_finalists(run: Path) -> None:
    told = json.loads((run / "best" / "architecture.json").read_text())
    assert told["weights"]
    assert told["trained"]["trial"] == told["found"]["trial"]


def test_output_and_top(run: Path, tmp_path: Path) -> None:
    done("specialize", run, "--output", tmp_path / "one", "--format", "torch")
    assert (tmp_path / "one" / "network.pt2").is_file()
    done("specialize", run, "--top", "2", "--output", tmp_path / "two")
    assert len(list((tmp_path / "two").glob("*/network.safetensors"))) == 2


def test_errors_are_one_line(run: Path, tmp_path: Path) -> None:
    called = raynas("specialize", run, "--max", "params=3")
    assert called.code == 2
    assert "keeps params <= 3; of " in called.err
    assert f"raynas resume {run} --trials" in called.err
    toy = tmp_path / "toy"
    done("run", experiment_file(tmp_path / "toy.py"), "--local", "--output", toy)
    assert "has no inherited weights to specialize" in raynas("specialize", toy).err
    (run / "supernet" / "weights.safetensors").rename(tmp_path / "away")
    try:
        assert "supernet weights not found:" in raynas("specialize", run).err
    finally:
        (tmp_path / "away").rename(run / "supernet" / "weights.safetensors")


def test_an_altered_file_of_weights_is_refused_by_name(run: Path) -> None:
    file = run / "supernet" / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\0\1\2\3")
    rows = len(read(RunFolder.open(run)))
    try:
        told = raynas("specialize", run).err
        resumed = raynas("resume", run, "--trials", "+1", "--local")
    finally:
        file.write_bytes(whole)
    assert f"{file} was altered" in told
    assert resumed.code == 2
    assert f"{file} was altered" in resumed.err
    assert len(read(RunFolder.open(run))) == rows  # no trial failed for it


def test_a_search_keeps_hard_bounds_on_costs_and_measured_latency(tmp_path: Path) -> None:
    """What breaks one is never evaluated with inherited weights; a stored latency serves later."""
    rows = read(RunFolder.open(_bounded(tmp_path))).to_pylist()
    search = [r for r in rows if r["stage"] == "search"]
    complete = [r for r in search if r["state"] == "COMPLETE"]
    over = {r["trial"] for r in search if r["state"] == "INFEASIBLE"}
    assert len(complete) >= 4
    assert all(r["params"] <= 2500 for r in complete)
    assert any(r["params"] > 2500 for r in search if r["trial"] in over)
    assert not over & {r["trial"] for r in search if r["val_accuracy"] is not None}
    timed = {r["trial"]: r["latency_ms"] for r in search if r["latency_ms"] is not None}
    assert {r["trial"] for r in complete} <= timed.keys()
    slowest = max(timed[r["trial"]] for r in complete)
    printed = done("specialize", tmp_path / "run", "--max", f"latency_ms={slowest}")
    assert "latency_ms" in printed


def _bounded(folder: Path) -> Path:
    file = experiment_file(
        folder / "small.py", HEAD, **{
            **PARTS, "sampler": "RegularizedEvolution(4, 2)",
            "baselines": "()", "budget": "Budget(5)",
            "bounds": '(Bound("params", max=2500), Bound("latency_ms", max=500))',
            "screen": "Screen(MeasuredLatency(repeats=5), keep=1.0, batch=3)",
        },
    )  # fmt: skip
    done("run", file, "--local", "--output", folder / "run")
    return folder / "run"
