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
from raynas.training.diagnosis import why_it_differs, why_it_fails, why_not_exported

ABSOLUTE = 1e-5
#: of the largest logit, by the type in which the network gives them
RELATIVE = {torch.float16: 4e-3, torch.bfloat16: 4e-2}
INPUT, OUTPUT = "images", "logits"

T = TypeVar("T")


@dataclass(frozen=True)
class Exported:
    """The files of an exported network.

    Attributes:
        paths: Format -> file.
        differences: Format -> largest absolute difference to the network's own logits; nothing
            for a format whose logits could not be compared.
        remarks: What a user should know of the files, a sentence each.
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
) -> Exported:
    """Write ``architecture.json`` and the network in each of ``formats`` to ``folder``.

    safetensors: the weights, ``network.safetensors``. onnx: ``network.onnx`` with a free batch
    size. torch: a ``torch.export`` program with a free batch size, ``network.pt2``. Each file is
    loaded again. The weights must be the network's own; the others must give its logits in eval
    mode, for another batch size, too: within 1e-5 + 1e-4 of the largest logit (more where it gives
    them in half precision). A file appears under its name only once it has passed its check; one
    that fails keeps none of the others back.

    Args:
        network: (n, *input_shape) float32, normalised -> logits (n, classes); it stays as it is.
        input_shape: (channels, height, width).
        folder: Made where it is not there.
        architecture: JSON data, written beside the files.
        formats: Any of those above.
        images: (n, *input_shape) of the data, on which logits are compared; None draws noise by
            ``seed``, which networks that take whole numbers out of their input may not accept.
        seed: Of the noise.

    Raises:
        UserError: For an unknown format or a missing package.
        RaynasError: When a file computes something else, or what in the network cannot be
            exported: with all that was not written, in a line.
    """
    for name in formats:
        if name not in _FORMATS:
            raise one_of("export format", name, _FORMATS)
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
    return Exported(paths, known, remarks)


def _first(images: Tensor, count: int) -> Tensor:
    """So many of the images, again from the first where there are fewer."""
    return images[torch.arange(count) % len(images)]


def _runnable(network: nn.Module, images: Tensor) -> tuple[nn.Module, str]:
    """The network in eval mode on the CPU, and why its passes cannot be compared, if so.

    In float32; one that does not run so keeps the types that it has.
    """
    own = copy.deepcopy(network).to("cpu").eval()
    own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    plain = copy.deepcopy(own).to(torch.float32)
    tried = copy.deepcopy(plain)  # a pass may change it
    reason = why_it_fails(tried, images)
    if reason and not why_it_fails(copy.deepcopy(own), images):
        plain, tried, reason = own, copy.deepcopy(own), ""
    return plain, reason or why_it_differs(tried, images)


Forward = Callable[[Tensor], Tensor]
Writer = Callable[[nn.Module, Tensor | None, Path], Forward]


def _write_and_check(
    name: str, path: Path, write: Writer, network: nn.Module, batches: Sequence[Tensor]
) -> float:
    """The largest difference of logits; without ``batches`` none are compared."""

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
            f"the {name} file computes something else than the network: logits up to {largest:g} "
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


_WEIGHTS = "safetensors"
_FORMATS: dict[str, tuple[str, Writer]] = {
    _WEIGHTS: ("network.safetensors", _safetensors),
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
