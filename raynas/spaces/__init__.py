"""This package has the search spaces; ``SPACES`` lists the spaces of the package by name.

To add one, write a file or folder here and a line in ``SPACES``. Importing this package does not
import torch; ``build``, ``supernet`` and ``Supernet`` do.
"""

from typing import TYPE_CHECKING, Any

from raynas.core import Choice
from raynas.spaces.base import InputShape, SearchSpace
from raynas.spaces.elastic_resnet.space import ElasticResNet
from raynas.spaces.nasbench201.space import NASBench201, NASBench201Cells
from raynas.spaces.zennas.space import ZenNAS

if TYPE_CHECKING:
    from raynas.spaces.supernet import Supernet

SPACES: dict[str, type[SearchSpace]] = {
    NASBench201.name: NASBench201,
    NASBench201Cells.name: NASBench201Cells,
    ElasticResNet.name: ElasticResNet,
    ZenNAS.name: ZenNAS,
}

__all__ = [
    "SPACES",
    "Choice",
    "ElasticResNet",
    "InputShape",
    "NASBench201",
    "NASBench201Cells",
    "SearchSpace",
    "Supernet",
    "ZenNAS",
]


def __getattr__(name: str) -> Any:
    if name == "Supernet":
        from raynas.spaces.supernet import Supernet

        return Supernet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
