"""Recipes, the training loop, checkpoints and exports of networks.

Names load when they are first used, so that importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raynas.core.renamed import renamed_names
from raynas.training.recipe import NASBENCH201, NASBENCH201_12, Recipe

if TYPE_CHECKING:
    from raynas.training.checkpoint import load_network, save_network
    from raynas.training.export import ExportedNetwork, export_network
    from raynas.training.loop import train

_WHERE = {
    "train": "loop",
    "load_network": "checkpoint",
    "save_network": "checkpoint",
    "ExportedNetwork": "export",
    "export_network": "export",
}

__all__ = [
    "NASBENCH201", "NASBENCH201_12", "ExportedNetwork", "Recipe", "export_network", "load_network",
    "save_network", "train",
]  # fmt: skip


_renamed = renamed_names(__name__, Exported="ExportedNetwork")


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        return _renamed(name)
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
