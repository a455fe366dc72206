"""Atomic checkpoints of trainings, and files with the weights of a network.

A checkpoint is a folder with ``weights.safetensors`` and a readable ``state.json``.
``weights.safetensors`` holds the network's state under ``network.`` and the optimizer's momentum
under ``momentum.``. A checkpoint is written under a temporary name, forced to disk and renamed. So
a folder named ``checkpoint-000012`` is complete or, after a disk failure, refused by its digest;
then the checkpoint before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim import Optimizer

from raynas.core import Measurement, UserError

WEIGHTS, STATE, PREFIX = "weights.safetensors", "state.json", "checkpoint-"
FORMAT = 1


@dataclass(frozen=True)
class TrainingProgress:
    """The content of ``state.json``: how far a training has come.

    Attributes:
        epoch: The number of finished epochs.
        identity: JSON data that identify the training (recipe, seed, architecture).
        history: The measurements of the finished epochs.
    """

    epoch: int
    identity: Mapping[str, Any]
    history: tuple[Measurement, ...] = ()


def save_checkpoint(
    folder: Path,
    progress: TrainingProgress,
    network: nn.Module,
    optimizer: Optimizer,
    keep: int = 2,
) -> Path:
    """Write ``folder/checkpoint-EPOCH`` atomically and delete old checkpoints.

    Args:
        folder: The folder of the training's checkpoints; created if needed.
        progress: Stored as ``state.json``.
        network: Its parameters and buffers are stored.
        optimizer: Its momentum buffers are stored.
        keep: The number of newest checkpoints to keep.

    Returns:
        The folder of the new checkpoint.

    Raises:
        OSError: When the disk is full or writing is not permitted. Earlier checkpoints are then
            unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{PREFIX}{progress.epoch:06d}"
    aside = folder / f".{target.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        weights = to_safetensors(_tensors(network, optimizer))
        state = {"format": FORMAT, "digest": _digest(weights), **asdict(progress)}
        _write(aside / WEIGHTS, weights)
        _write(aside / STATE, (json.dumps(state, indent=1) + "\n").encode())
        _sync_folder(aside)
        if target.exists():  # it could not be read, so its epoch was trained again
            shutil.rmtree(target)
        aside.rename(target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _sync_folder(folder)
    _remove_others(folder, target, keep)
    return target


def load_checkpoint(
    folder: Path,
    identity: Mapping[str, Any],
    network: nn.Module,
    optimizer: Optimizer | None = None,
) -> TrainingProgress | None:
    """Fill network and optimizer from the newest checkpoint that is complete.

    Args:
        folder: The folder of the training's checkpoints; it need not exist.
        identity: JSON data that identify the training.
        network: Filled in place.
        optimizer: Its momentum is filled in place; None leaves the stored momentum out.

    Returns:
        The progress of the checkpoint; None when there is no complete checkpoint.

    Raises:
        UserError: When an entry of ``identity`` has another value in the checkpoint.
    """
    wanted = json.loads(json.dumps(identity))
    for path in _newest_first(folder):
        read = _read(path)
        if read is None:
            continue
        progress, tensors = read
        other = sorted(k for k in wanted if progress.identity.get(k) != wanted[k])
        if other:
            raise UserError(
                f"{path} is a checkpoint of another training (other {', '.join(other)})",
                hint="give this training a folder of its own or remove that one",
            )
        _fill(network, optimizer, tensors)
        return progress
    return None


def save_network(path: Path, network: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of a network to one safetensors file, under a temporary name that is renamed.

    Args:
        path: The file to write; its folder is created if needed.
        network: Its parameters and buffers are written.
        metadata: Texts to store in the head of the file.

    Raises:
        OSError: When the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        _write(aside, to_safetensors(_private(network.state_dict()), dict(metadata or {})))
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load_network(path: Path, network: nn.Module) -> dict[str, str]:
    """Fill ``network`` from a file of :func:`save_network`, which must have all names of its state.

    Args:
        path: The file.
        network: Filled in place.

    Returns:
        The metadata of the file.

    Raises:
        UserError: When the file is missing.
        UserError: When the file is incomplete.
        UserError: When the weights are of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"weights not found: {path}", hint="check the path") from error
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error})", hint="export the network again"
        ) from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the weights in {path} are of another network ({reason})",
            hint="build the architecture with the input shape and classes it was trained with",
        ) from error
    return metadata


def _tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, weight in network.named_parameters():
        momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    return _private(tensors)


def _private(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in plain row order: safetensors refuses tensors that share memory (tied weights)."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()
    }


def _fill(network: nn.Module, optimizer: Optimizer | None, tensors: Mapping[str, Tensor]) -> None:
    start = len("network.")
    network.load_state_dict({k[start:]: v for k, v in tensors.items() if k.startswith("network.")})
    if optimizer is None:
        return
    for name, weight in network.named_parameters():
        momentum = tensors.get(f"momentum.{name}")
        if momentum is not None:
            buffer = torch.empty_like(weight, requires_grad=False).copy_(momentum)
            optimizer.state[weight]["momentum_buffer"] = buffer


def _read(path: Path) -> tuple[TrainingProgress, dict[str, Tensor]] | None:
    """The checkpoint's content, or None where any of it is missing or damaged."""
    try:
        state = json.loads((path / STATE).read_text())
        weights = (path / WEIGHTS).read_bytes()
        if state["format"] != FORMAT or state["digest"] != _digest(weights):
            return None
        history = tuple(Measurement(**row) for row in state["history"])
        return TrainingProgress(state["epoch"], state["identity"], history), parse_safetensors(
            weights
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"), reverse=True)


def _remove_others(folder: Path, newest: Path, keep: int) -> None:
    """Leave ``newest`` and the ``keep - 1`` before it. Only one process writes to a folder."""
    paths = _newest_first(folder)
    # a later one was damaged, else the training would have gone on from it
    stale = paths[: paths.index(newest)] + paths[paths.index(newest) + keep :]
    left_by_a_killed_writer = folder.glob(f".{PREFIX}*")
    for path in (*stale, *left_by_a_killed_writer):
        shutil.rmtree(path, ignore_errors=True)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
