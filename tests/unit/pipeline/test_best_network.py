"""What is left of a run whose best network cannot be built, compared or saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import experiment_file, raynas

from raynas import reports
from raynas.store import RunFolder

pytestmark = pytest.mark.usefixtures("undrawn")

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from raynas.spaces.base import SearchSpace


class Net(nn.Module):
    def __init__(self, width, how):
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, 10)
        self.token = nn.Parameter(torch.zeros(1, width))

    def forward(self, x):
        h = F.relu(self.first(x.flatten(1)))
        if self.how == "drops":
            h = F.dropout(h, .5)
        return self.last(h + self.token.expand(len(x), -1))


@dataclass(frozen=True)
class Dense(SearchSpace):
    name = "dense"
    how: str = "plain"

    @property
    def choices(self):
        return (Choice("width", (4, 8), ordered=True),)

    def build(self, arch, input_shape=(1, 8, 8), num_classes=10):
        return Net(arch["width"], self.how)


@dataclass
class Unbuildable(Retrain):
    name = "unbuildable"

    def network(self, arch, workdir):
        raise TypeError("the network is gone\\nfor ever")
"""
PARTS = {
    "space": "Dense()",
    "data": "Digits(subset=60)",
    "evaluator": "Retrain(Recipe(epochs=1, batch_size=30, crop_pad=1))",
    "scheduler": "NoStopping()",
    "budget": "Budget(1)",
    "finalists": "Finalists(0)",
}


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done: a report, an export."""
    done: list[str] = []

    def report(folder: RunFolder, _space: object) -> None:
        assert not (folder.best / "network.safetensors").exists()
        done.append("report")

    monkeypatch.setattr(reports, "write_report", report)
    return done


def run(tmp_path: Path, **parts: str) -> tuple[int, str, str]:
    file = experiment_file(tmp_path / "own.py", HEAD, **{**PARTS, **parts})
    called = raynas("run", file, "--local", "--output", tmp_path / "run")
    return called.code, called.out, called.err


def test_the_report_comes_before_the_network(tmp_path: Path, order: list[str]) -> None:
    code, out, err = run(tmp_path)
    assert (code, err, order) == (0, "", ["report"])
    assert "best network: " in out
    assert (tmp_path / "run" / "best" / "network.safetensors").is_file()


def test_a_network_that_draws_in_eval_mode_is_kept_with_a_remark(
    tmp_path: Path, order: list[str]
) -> None:
    code, out, err = run(tmp_path, space='Dense("drops")')
    assert (code, err, order) == (0, "", ["report"])
    assert "dropout() in Net" in out
    assert "give it training=self.training, or use nn.Dropout" in out
    assert (tmp_path / "run" / "best" / "network.safetensors").is_file()
    called = raynas("export", tmp_path / "run", "--format", "torch")
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert "no torch file: the network is not deterministic in eval mode" in called.err


def test_a_network_that_cannot_be_had_costs_neither_report_nor_results(
    tmp_path: Path, order: list[str]
) -> None:
    evaluator = PARTS["evaluator"].replace("Retrain", "Unbuildable", 1)
    code, out, err = run(tmp_path, evaluator=evaluator)
    assert (code, order) == (2, ["report"])
    assert "report: " in out
    assert err == (
        "error: the best network was not saved, but all other results were: TypeError: "
        "the network is gone\n"
    )


def test_an_export_that_fails_is_one_line_that_names_what_does_it(
    tmp_path: Path, order: list[str]
) -> None:
    code, _, _ = run(tmp_path)
    assert (code, order) == (0, ["report"])
    called = raynas("export", tmp_path / "run", "--format", "torch,safetensors")
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert "makes the number of images a constant, by len() in Net" in called.err
    assert (tmp_path / "run" / "export" / "network.safetensors").is_file()
