"""Export of a trained network to files, each checked to compute the same as the network."""

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

from raynas.core import RaynasError, UserError, unknown_option
from raynas.core.renamed import renamed_names
from raynas.training.checkpoint import load_network, save_network
from raynas.training.diagnosis import why_it_differs, why_it_fails, why_not_exported

ABSOLUTE = 1e-5
#: allowed difference as a share of the largest logit, by the type of the logits
RELATIVE = {torch.float16: 4e-3, torch.bfloat16: 4e-2}
INPUT, OUTPUT = "images", "logits"

T = TypeVar("T")


@dataclass(frozen=True)
class ExportedNetwork:
    """The files of an exported network.

    Attributes:
        paths: Format -> file.
        differences: Format -> largest absolute difference to the network's own logits; no entry for
            a format whose logits could not be compared.
        remarks: Sentences that a user should read about the files.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def export_network(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    folder: Path,
    *,
    architecture: Mapping[str, Any],
    formats: Sequence[str] = ("safetensors", "onnx", "torch"),
    images: Tensor | None = None,
    seed: int = 0,
) -> ExportedNetwork:
    """Write ``architecture.json`` and the network in each of ``formats`` to ``folder``.

    safetensors: the weights, ``network.safetensors``. onnx: ``network.onnx`` with a free batch
    size. torch: a ``torch.export`` program with a free batch size, ``network.pt2``. Each file is
    loaded again. The weights must be the network's own. The others must give its logits in eval
    mode, also for another batch size: within 1e-5 + 1e-4 of the largest logit (more for logits in
    half precision). A file gets its final name only after it has passed its check. The failure of
    one format does not prevent the other formats.

    Args:
        network: (n, *input_shape) float32, normalised -> logits (n, classes); it is not changed.
        input_shape: (channels, height, width).
        folder: Created if needed.
        architecture: JSON data, written beside the files.
        formats: Any of "safetensors", "onnx" and "torch".
        images: (n, *input_shape) of the data, on which logits are compared; None draws noise by
            ``seed``, which networks that take whole numbers from their input may not accept.
        seed: Of the noise.

    Returns:
        The files and the differences of their logits.

    Raises:
        UserError: When a format is unknown.
        UserError: When a package is missing.
        RaynasError: When a file computes other outputs than the network, or a part of the network
            cannot be exported; the message lists all formats that were not written.
    """
    for name in formats:
        if name not in _FORMATS:
            raise unknown_option("export format", name, _FORMATS)
    if images is None:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(5, *input_shape, generator=generator)
    batches = [_first(images.float().cpu(), n) for n in (3, 5)]
    plain, reason = _runnable(network, batches[-1])
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"architecture": folder / "architecture.json"}
    text = json.dumps({**architecture, "input_shape": list(input_shape)}, indent=1)
    _in_place(paths["architecture"], lambda aside: aside.write_text(text + "\n"))
    differences, failed = {}, []
    for name in formats:
        file_name, write = _FORMATS[name]
        try:
            if name != _WEIGHTS and reason:
                raise RaynasError(f"no {name} file: {reason}")
            given = () if reason else batches
            differences[name] = _write_and_check(name, folder / file_name, write, plain, given)
            paths[name] = folder / file_name
        except UserError:
            raise
        except RaynasError as error:
            failed.append(str(error))
    if failed:
        raise RaynasError("; ".join(failed))
    remarks = (f"weights are stored, but logits were not compared: {reason}",) if reason else ()
    known = {} if reason else differences
    return ExportedNetwork(paths, known, remarks)


def _first(images: Tensor, count: int) -> Tensor:
    """Return ``count`` of the images, starting again at the first where there are fewer."""
    return images[torch.arange(count) % len(images)]


def _runnable(network: nn.Module, images: Tensor) -> tuple[nn.Module, str]:
    """Return the network in eval mode on the CPU, and why its passes cannot be compared, or "".

    It is in float32; a network that does not run in float32 keeps its types.
    """
    own = copy.deepcopy(network).to("cpu").eval()
    own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    plain = copy.deepcopy(own).to(torch.float32)
    tried = copy.deepcopy(plain)  # a pass may change the network
    reason = why_it_fails(tried, images)
    if reason and not why_it_fails(copy.deepcopy(own), images):
        plain, tried, reason = own, copy.deepcopy(own), ""
    return plain, reason or why_it_differs(tried, images)


Forward = Callable[[Tensor], Tensor]
Writer = Callable[[nn.Module, Tensor | None, Path], Forward]


def _write_and_check(
    name: str, path: Path, write: Writer, network: nn.Module, batches: Sequence[Tensor]
) -> float:
    """Write and check one file and return the largest difference of logits.

    Without ``batches`` no logits are compared.
    """

    def write_checked(aside: Path) -> float:
        with _silence():
            try:
                again = write(network, batches[0] if batches else None, aside)
                found = (_difference(name, network, again, batch) for batch in batches)
                return max(found, default=0.0)
            except (RaynasError, OSError, MemoryError):
                raise
            except Exception as error:  # exporters raise any kind
                reason = why_not_exported(network, batches[0] if batches else None, error)
                raise RaynasError(f"no {name} file: {reason}") from error

    return _in_place(path, write_checked)


def _difference(name: str, network: nn.Module, again: Forward, batch: Tensor) -> float:
    with torch.no_grad():
        wanted, found = network(batch), again(batch)
    relative = RELATIVE.get(wanted.dtype, 1e-4)
    difference = float((wanted.float() - found.float()).abs().max())
    largest = float(wanted.abs().max())
    if not difference <= ABSOLUTE + relative * largest:  # also when it is not a number
        raise RaynasError(
            f"the {name} file computes other outputs than the network: logits up to {largest:g} "
            f"differ by {difference:g} for {len(batch)} images"
        )
    return difference


def _safetensors(network: nn.Module, _: Tensor | None, path: Path) -> Forward:
    save_network(path, network)
    again = copy.deepcopy(network)
    with torch.no_grad():
        for value in again.state_dict().values():
            if value.is_floating_point():
                value.fill_(torch.nan)  # only what the file holds can give right logits
    load_network(path, again)
    stored = again.state_dict()
    for name, value in network.state_dict().items():
        if not torch.equal(value.nan_to_num(), stored[name].nan_to_num()):
            raise RaynasError(f"the {_WEIGHTS} file holds other weights than the network: {name}")
    return again


def _torch(network: nn.Module, example: Tensor | None, path: Path) -> Forward:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    with path.open("wb") as file:
        torch.export.save(program, file)
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _onnx(network: nn.Module, example: Tensor | None, path: Path) -> Forward:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"export to ONNX needs package {error.name!r}", hint="pip install 'raynas[onnx]'"
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


_WEIGHTS = "safetensors"
_FORMATS: dict[str, tuple[str, Writer]] = {
    _WEIGHTS: ("network.safetensors", _safetensors),
    "onnx": ("network.onnx", _onnx),
    "torch": ("network.pt2", _torch),
}


def _in_place(path: Path, write: Callable[[Path], T]) -> T:
    """Call ``write`` with a temporary name, then rename it.

    A failed write leaves an older file unchanged.
    """
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        result = write(aside)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    return result


@contextmanager
def _silence() -> Iterator[None]:
    """Silence prints, logs and warnings of exporters; their errors are still raised."""
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


__getattr__ = renamed_names(__name__, Exported="ExportedNetwork")
