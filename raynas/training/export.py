"""A trained network as files for others, each checked to compute what the network computes."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from raynas.core import RaynasError, UserError, one_of
from raynas.training.checkpoint import load_network, save_network

RELATIVE, ABSOLUTE = 1e-4, 1e-5
INPUT, OUTPUT = "images", "logits"

T = TypeVar("T")


@dataclass(frozen=True)
class Exported:
    """``paths``: format -> file. ``differences``: format -> largest absolute difference to the
    network's own logits on random images."""

    paths: Mapping[str, Path] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)


def export_network(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    folder: Path,
    *,
    architecture: Mapping[str, Any],
    formats: Sequence[str] = ("safetensors", "onnx", "torch"),
    seed: int = 0,
) -> Exported:
    """Write ``architecture.json`` and the network in each of ``formats`` to ``folder``.

    ``network``: (n, *input_shape) float32, normalised -> logits (n, classes); it stays as it is.
    safetensors: the weights, ``network.safetensors``. onnx: ``network.onnx`` with a free batch
    size. torch: a ``torch.export`` program with a free batch size, ``network.pt2``. Each file is
    loaded again and must give the network's logits in eval mode, for another batch size, too:
    within 1e-5 + 1e-4 of the largest logit. ``architecture``: JSON data, written beside them.

    Raises: UserError for an unknown format or a missing package, RaynasError when a file computes
    something else. A file appears under its name only once it has passed its check.
    """
    for name in formats:
        if name not in _FORMATS:
            raise one_of("export format", name, _FORMATS)
    plain = copy.deepcopy(network).to("cpu", torch.float32).eval()
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, *input_shape, generator=generator) for n in (3, 5)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"architecture": folder / "architecture.json"}
    text = json.dumps({**architecture, "input_shape": list(input_shape)}, indent=1)
    _in_place(paths["architecture"], lambda aside: aside.write_text(text + "\n"))
    differences = {}
    for name in formats:
        file_name, write = _FORMATS[name]
        paths[name] = folder / file_name
        differences[name] = _write_and_check(name, paths[name], write, plain, batches)
    return Exported(paths, differences)


Forward = Callable[[Tensor], Tensor]
Writer = Callable[[nn.Module, Tensor, Path], Forward]


def _write_and_check(
    name: str, path: Path, write: Writer, network: nn.Module, batches: Sequence[Tensor]
) -> float:
    def write_checked(aside: Path) -> float:
        with _silence():
            again = write(network, batches[0], aside)
            return max(_difference(name, network, again, batch) for batch in batches)

    return _in_place(path, write_checked)


def _difference(name: str, network: nn.Module, again: Forward, batch: Tensor) -> float:
    with torch.no_grad():
        wanted, found = network(batch), again(batch)
    difference = float((wanted - found).abs().max())
    largest = float(wanted.abs().max())
    if not difference <= ABSOLUTE + RELATIVE * largest:  # also when it is not a number
        raise RaynasError(
            f"the {name} file computes something else than the network: logits up to {largest:g} "
            f"differ by {difference:g} for {len(batch)} images"
        )
    return difference


def _safetensors(network: nn.Module, _: Tensor, path: Path) -> Forward:
    save_network(path, network)
    again = copy.deepcopy(network)
    with torch.no_grad():
        for value in again.state_dict().values():
            if value.is_floating_point():
                value.fill_(torch.nan)  # only what the file holds can give right logits
    load_network(path, again)
    return again


def _torch(network: nn.Module, example: Tensor, path: Path) -> Forward:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    with path.open("wb") as file:
        torch.export.save(program, file)
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _onnx(network: nn.Module, example: Tensor, path: Path) -> Forward:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"export to ONNX needs package {error.name!r}", cure="pip install 'raynas[onnx]'"
        ) from error
    torch.onnx.export(
        network,
        (example,),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        external_data=False,
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        logits = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        return torch.from_numpy(np.asarray(logits))

    return forward


_FORMATS: dict[str, tuple[str, Writer]] = {
    "safetensors": ("network.safetensors", _safetensors),
    "onnx": ("network.onnx", _onnx),
    "torch": ("network.pt2", _torch),
}


def _in_place(path: Path, write: Callable[[Path], T]) -> T:
    """``write`` to a name aside, then rename: a failed write leaves what was there."""
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        result = write(aside)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    return result


@contextmanager
def _silence() -> Iterator[None]:
    """Exporters talk through prints, logs and warnings; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
