"""Recipes, the training loop, checkpoints and exports of networks.

Names load when they are first used, so that importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raynas.training.recipe import NASBENCH201, NASBENCH201_12, Recipe

if TYPE_CHECKING:
    from raynas.training.checkpoint import load_network, save_network
    from raynas.training.export import Exported, export_network
    from raynas.training.loop import train

_WHERE = {
    "train": "loop",
    "load_network": "checkpoint",
    "save_network": "checkpoint",
    "Exported": "export",
    "export_network": "export",
}

__all__ = [
    "NASBENCH201", "NASBENCH201_12", "Exported", "Recipe", "export_network", "load_network",
    "save_network", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
