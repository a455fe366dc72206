from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import RaynasError, UserError
from raynas.training import ExportedNetwork, export, export_network, load_network, save_network

ARCHITECTURE = {"space": "tiny", "arch": "a=1"}


class Moody(nn.Module):
    """Gives other logits whenever it is asked: no file can equal it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) + torch.rand(())


def test_safetensors_and_torch_give_the_same_logits(
    network_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    network = network_of().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network(torch.randn(8, 1, 8, 8))  # moves the statistics of batch norm
    before = {k: v.clone() for k, v in network.state_dict().items()}
    exported = export_network(
        network, (1, 8, 8), tmp_path, architecture=ARCHITECTURE, formats=("safetensors", "torch")
    )
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert exported.differences.keys() == {"safetensors", "torch"}
    assert max(exported.differences.values()) < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "architecture.json", "network.pt2", "network.safetensors",
    ]  # fmt: skip
    data = json.loads(exported.paths["architecture"].read_text())
    assert data == {**ARCHITECTURE, "input_shape": [1, 8, 8]}
    again = network_of(seed=5)
    load_network(exported.paths["safetensors"], again)
    x = torch.randn(7, 1, 8, 8)
    assert torch.allclose(again.eval()(x), network.eval()(x), atol=1e-5)


def test_onnx_takes_any_batch_size_and_says_nothing(
    network: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = export_network(
        network, (1, 8, 8), tmp_path, architecture=ARCHITECTURE, formats=("onnx",)
    )
    assert capfd.readouterr() == ("", "")
    assert exported.differences["onnx"] < 1e-4
    session = onnxruntime.InferenceSession(exported.paths["onnx"])
    for n in (1, 9):
        x = torch.randn(n, 1, 8, 8)
        (logits,) = session.run(["logits"], {"images": x.numpy()})
        assert torch.allclose(torch.tensor(logits), network.eval()(x), atol=1e-4)


def test_a_file_that_holds_other_weights_is_refused_and_not_left(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_other(path: Path, network: nn.Module) -> None:
        other = copy.deepcopy(network)
        next(other.parameters()).data[0] += 0.5
        save_network(path, other)

    monkeypatch.setattr(export, "save_network", save_other)
    with pytest.raises(RaynasError, match="safetensors file holds other weights than the network"):
        export_network(
            network, (1, 8, 8), tmp_path, architecture=ARCHITECTURE, formats=("safetensors",)
        )
    assert [p.name for p in tmp_path.iterdir()] == ["architecture.json"]


def test_a_file_that_computes_something_else_is_refused_and_not_left(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_other(network: nn.Module, _example: Tensor, path: Path) -> nn.Module:
        path.write_text("other")
        return Shifted(network)

    monkeypatch.setitem(export._FORMATS, "torch", ("network.pt2", write_other))
    with pytest.raises(RaynasError, match="torch file computes other outputs than the network"):
        export_network(network, (1, 8, 8), tmp_path, architecture={}, formats=("torch",))
    assert [p.name for p in tmp_path.iterdir()] == ["architecture.json"]


class Shifted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x) + 0.1
        return logits


# -- what a user's network may do --------------------------------------------------------------


class Dropping(nn.Module):
    """Drops out in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(F.dropout(x.flatten(1), 0.5))
        return logits


class Counting(nn.Module):
    """Gives other logits with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator]
        logits: Tensor = self.layer(x.flatten(1)) * self.calls
        return logits


class Tokens(nn.Module):
    """Takes whole numbers from 0 to 7 out of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.table(x.flatten(1).round().long()).mean(1))
        return logits


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4).half()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1).half())
        return logits


class ViT(nn.Module):
    """``expand(len(x), ...)``: only for the number of images that an exporter shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.head = nn.Parameter(torch.zeros(1, 1, 64)), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat((self.token.expand(len(x), -1, -1), x.flatten(2)), dim=1)
        logits: Tensor = self.head(tokens.mean(1))
        return logits


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits if logits.sum() > 0 else -logits


class WithFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x.flatten(1)), x.flatten(1)


def save(
    network: nn.Module, folder: Path, *formats: str, images: Tensor | None = None
) -> ExportedNetwork:
    return export_network(
        network, (1, 8, 8), folder, architecture={}, formats=formats, images=images
    )


NOT_COMPARED = [
    (Moody, r"not deterministic in eval mode .*rand\(\) in Moody \(test_export.py, line \d+\) "
            "draws random numbers; draw none where training is off"),
    (Dropping, r"not deterministic in eval mode .*dropout\(\) in Dropping .*draws random numbers; "
               "give it training=self.training, or use nn.Dropout"),
    (lambda: nn.Sequential(nn.Identity(), Dropping()), r"in module '1' \(Dropping\)"),
    (Counting, "a forward pass changes 'calls'"),
    (Tokens, r"the network fails on 5 images, IndexError.*\(test_export.py, line \d+: "),
    (WithFeatures, "the network gives tuple, not a tensor of logits"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), NOT_COMPARED)
def test_weights_are_saved_where_logits_cannot_be_compared_and_it_is_said_why(
    make: Callable[[], nn.Module], reason: str, tmp_path: Path
) -> None:
    network = make()
    exported = save(network, tmp_path, "safetensors")
    assert exported.differences == {}
    (remark,) = exported.remarks
    assert re.search(reason, remark)
    assert "\n" not in remark
    again = make()
    load_network(exported.paths["safetensors"], again)
    state = network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize(("make", "reason"), NOT_COMPARED)
def test_nothing_else_is_exported_of_such_a_network_and_the_line_says_why(
    make: Callable[[], nn.Module], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(RaynasError, match=f"^no torch file: .*{reason}"):
        save(make(), tmp_path, "torch", "safetensors")
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["architecture.json", "network.safetensors"]


def test_images_of_the_data_are_what_the_network_is_shown(tmp_path: Path) -> None:
    images = torch.arange(2 * 64).reshape(2, 1, 8, 8).remainder(8).float()
    exported = save(Tokens(), tmp_path, "safetensors", "torch", images=images)
    assert exported.remarks == ()
    assert exported.differences["safetensors"] == 0.0
    assert exported.differences["torch"] < 1e-5


def test_half_precision_is_exported_as_it_is(tmp_path: Path) -> None:
    exported = save(Half(), tmp_path, "safetensors", "torch")
    assert exported.remarks == ()
    again = Half()
    load_network(exported.paths["safetensors"], again)
    assert again.layer.weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (ViT, r"forward\(\) makes the number of images a constant, by len\(\) in ViT "
              r"\(test_export.py, line \d+\); write x.shape\[0\] instead"),
        (Branching, r"data-dependent .*\(test_export.py, line \d+: return logits if"),
    ],
)  # fmt: skip
def test_what_an_exporter_does_not_take_is_named_in_a_line(
    make: Callable[[], nn.Module], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(RaynasError, match=f"^no torch file: .*{reason}") as raised:
        save(make(), tmp_path, "torch", "safetensors")
    assert "\n" not in str(raised.value)
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["architecture.json", "network.safetensors"]


def test_unknown_formats_are_refused_before_anything_is_written(
    network: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="did you mean 'onnx'"):
        export_network(
            network, (1, 8, 8), tmp_path / "x", architecture=ARCHITECTURE, formats=("onx",)
        )
    assert not (tmp_path / "x").exists()


def test_without_the_onnx_packages_the_error_says_what_to_install(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs package 'onnx'.*pip install 'raynas\[onnx\]'"):
        export_network(network, (1, 8, 8), tmp_path, architecture={}, formats=("onnx",))
