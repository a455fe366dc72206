"""The weights of a trained supernet: one safetensors file, and a readable JSON file beside it.

The head of ``weights.safetensors`` describes the supernet and the training, and has a digest of
all numbers. So the file alone is enough, and a file that is cut, altered or of another supernet is
refused by name. ``weights.json`` repeats the head for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from raynas.core import TrainingDiverged, UserError
from raynas.core.describe import describe
from raynas.data.base import Images
from raynas.spaces.supernet import Supernet
from raynas.store.files import reason, write_whole
from raynas.supernet.trained_on import TrainedOn

FILE, SHEET = "weights.safetensors", "weights.json"
FORMAT = 1

_HEAD = "raynas supernet"
_KEYS = {"version", "epoch", "identity", "space", "input_shape", "num_classes"}
_AGAIN = "copy the file again, or train the supernet again"


@dataclass(frozen=True)
class SupernetWeights:
    """The description of a weights file.

    Attributes:
        path: The file.
        version: Twelve hexadecimal digits that depend on the numbers only, so that equal versions
            give equal subnets.
        epoch: The last epoch of the training.
        identity: JSON data that identify the training that made them.
    """

    path: Path
    version: str
    epoch: int
    identity: Mapping[str, Any]


def save_weights(
    folder: Path,
    supernet: Supernet,
    *,
    epoch: int,
    identity: Mapping[str, Any],
    images: Images | None = None,
) -> SupernetWeights:
    """Write all parameters and buffers to ``folder/weights.safetensors`` atomically.

    Args:
        folder: Created if needed.
        supernet: The supernet to store.
        epoch: The last epoch of its training.
        identity: JSON data that identify the training.
        images: The training images, recorded so that they are not used to measure the weights; None
            records none.

    Returns:
        The description of the file.

    Raises:
        TrainingDiverged: When numbers are not finite; an older file is then unchanged.
        OSError: When the file cannot be written; an older file is then unchanged.
    """
    tensors = _tensors(supernet)
    broken = _not_finite(tensors)
    if broken:
        raise TrainingDiverged(f"the supernet's weights after epoch {epoch}: {broken}")
    head = {
        "format": FORMAT,
        "version": _version(tensors),
        "epoch": epoch,
        "identity": json.loads(json.dumps(identity)),
        **_of(supernet),
    }
    sheet = dict(head)
    if images is not None:
        head["trained_on"] = TrainedOn.of(images).to_head()
        shown = ("images", "digest")
        sheet["trained_on"] = {name: head["trained_on"][name] for name in shown}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, to_safetensors(tensors, {_HEAD: json.dumps(head)}))
    write_whole(folder / SHEET, (json.dumps(sheet, indent=1) + "\n").encode())
    return SupernetWeights(folder / FILE, head["version"], epoch, head["identity"])


def load_weights(path: Path, supernet: Supernet) -> SupernetWeights:
    """Fill ``supernet`` from a weights file.

    Args:
        path: The file, or its folder.
        supernet: Filled in place; unchanged when an error is raised.

    Returns:
        The description of the file.

    Raises:
        UserError: When the file is missing, cut or altered.
        UserError: When the weights are of another supernet.
        UserError: When numbers are not finite.
    """
    file = path / FILE if path.is_dir() else path
    head, tensors = _read(file)
    other = _difference(head, supernet) or _misfit(tensors, supernet)
    if other:
        raise UserError(
            f"the weights in {file} are of another supernet: {other}",
            hint="take the space, the data and the settings that they were trained with",
        )
    _expect_finite(file, tensors)
    supernet.load_state_dict(tensors)
    return SupernetWeights(file, head["version"], head["epoch"], head["identity"])


def read_version(path: Path) -> str:
    """Read the version of a weights file from its head.

    Args:
        path: The file, or its folder.

    Returns:
        Twelve hexadecimal digits.

    Raises:
        UserError: When the file is missing or contains no supernet weights; it names the file.
    """
    return str(_head(path)[1]["version"])


def read_trained_on(path: Path) -> TrainedOn | None:
    """Read the record of the images that the weights in a file were trained on.

    Args:
        path: The file, or its folder.

    Returns:
        The record; None when the file has none, as files of raynas 0.1.

    Raises:
        UserError: When the file is missing or damaged; it names the file.
    """
    file, head = _head(path)
    try:
        return TrainedOn.from_head(head.get("trained_on"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} was altered: {error}", hint=_AGAIN) from error


def _head(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file and its head, which has a version.

    Raises:
        UserError: When the file is missing or contains no supernet weights.
    """
    file = path / FILE if path.is_dir() else path
    try:
        with safe_open(file, framework="pt") as content:
            text = (content.metadata() or {}).get(_HEAD, "{}")
        head: dict[str, Any] = json.loads(text)
        head["version"]
    except FileNotFoundError as error:
        raise UserError(f"supernet weights not found: {file}", hint="check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {reason(error)}") from error
    except SafetensorError as error:
        raise UserError(
            f"{file} is not a complete safetensors file ({error})", hint=_AGAIN
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} contains no supernet weights", hint="check the path") from error
    return file, head


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the numbers of a weights file, to send them to other processes.

    Args:
        path: The file, or its folder.

    Returns:
        Name -> array, for all parameters and buffers.

    Raises:
        UserError: When the file is missing, cut, altered, or not all finite; it names the file.
    """
    file = path / FILE if path.is_dir() else path
    _, tensors = _read(file)
    _expect_finite(file, tensors)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def fill(supernet: Supernet, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give ``supernet`` copies of the arrays that :func:`read_arrays` gave.

    Args:
        supernet: Filled in place.
        arrays: Name -> array.

    Raises:
        UserError: When they are of another supernet.
    """
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    if other := _misfit(tensors, supernet):
        raise UserError(f"the weights are of another supernet: {other}")
    supernet.load_state_dict(tensors)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return head and tensors of a complete file.

    Raises:
        UserError: When the file is missing, cut, altered, or of another format.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"supernet weights not found: {file}", hint="check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {reason(error)}") from error
    try:
        tensors = parse_safetensors(content)
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get(_HEAD)
        head: dict[str, Any] = {} if text is None else json.loads(text)
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"{file} is not a complete safetensors file ({error})", hint=_AGAIN
        ) from error
    if not head or not isinstance(head, dict):
        raise UserError(f"{file} contains no supernet weights", hint="check the path")
    if head.get("format") != FORMAT:
        raise UserError(f"{file} has format {head.get('format')}", expected=str(FORMAT))
    whole = head.keys() >= _KEYS and isinstance(head["space"], dict)
    if not whole or head["version"] != _version(tensors):
        raise UserError(
            f"{file} was altered: its numbers do not match its version {head.get('version')}",
            hint=_AGAIN,
        )
    return head, tensors


def _of(supernet: Supernet) -> dict[str, Any]:
    """Return the description of the supernet in the form that JSON gives back."""
    facts = {
        "space": describe(supernet.space, code=False),
        "input_shape": supernet.input_shape,
        "num_classes": supernet.num_classes,
    }
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def _difference(head: Mapping[str, Any], supernet: Supernet) -> str:
    """Return the differences between the file's supernet and this one in words, or ""."""
    theirs, ours = _flat(head), _flat(_of(supernet))
    kinds = theirs.get("space.class"), ours["space.class"]
    if kinds[0] != kinds[1]:
        return f"of space {kinds[0]}, not {kinds[1]}"
    changed = [n for n in sorted({*theirs, *ours}) if theirs.get(n) != ours.get(n)]
    return ", ".join(f"{n} is {theirs.get(n)} there, {ours.get(n)} here" for n in changed)


def _misfit(tensors: Mapping[str, Tensor], supernet: Supernet) -> str:
    """Return the first tensor that differs in name or shape from this supernet's, or ""."""
    theirs = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in supernet.state_dict().items()}
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            return f"{name} is {theirs.get(name)} there, {ours.get(name)} here"
    return ""


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    space = {f"space.{name}": value for name, value in facts["space"].items()}
    return {**space, **{name: facts[name] for name in ("input_shape", "num_classes")}}


def _tensors(supernet: Supernet) -> dict[str, Tensor]:
    state = supernet.state_dict().items()
    return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in state}


def _version(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _expect_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    broken = _not_finite(tensors)
    if broken:
        raise UserError(
            f"the weights in {file} are not all finite: {broken}",
            hint="train again, with a lower learning rate or with grad_clip",
        )


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the tensors with numbers that are not finite and how many, or ""."""
    floats = [(n, t) for n, t in sorted(tensors.items()) if t.is_floating_point()]
    counts = [(name, int((~tensor.isfinite()).sum())) for name, tensor in floats]
    found = [f"{count} of {name}" for name, count in counts if count]
    more = f" and {len(found) - 3} more tensors" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
