from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raynas.core import RaynasError, UserError
from raynas.training import export_network, load_network

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


def test_a_file_that_computes_something_else_is_refused_and_not_left(tmp_path: Path) -> None:
    with pytest.raises(RaynasError, match="safetensors file computes something else"):
        export_network(
            Moody(), (1, 8, 8), tmp_path, architecture=ARCHITECTURE, formats=("safetensors",)
        )
    assert [p.name for p in tmp_path.iterdir()] == ["architecture.json"]


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
