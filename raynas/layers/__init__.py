"""This package has elastic layers, from which a user's own search space builds its supernet.

torch is imported when the first name of the package is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raynas.core.renamed import renamed_names

if TYPE_CHECKING:
    from raynas.layers.base import Arch, Elastic, ElasticPart, ElasticSize, Region, Sized
    from raynas.layers.composites import Flatten, OneOf, Repeat, Residual, Sequential
    from raynas.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear

_HOME = {
    "Arch": "base",
    "Elastic": "base",
    "ElasticBatchNorm2d": "elastic",
    "ElasticConv2d": "elastic",
    "ElasticLinear": "elastic",
    "Flatten": "composites",
    "OneOf": "composites",
    "ElasticPart": "base",
    "Region": "base",
    "Repeat": "composites",
    "Residual": "composites",
    "Sequential": "composites",
    "ElasticSize": "base",
    "Sized": "base",
}

__all__ = [
    "Arch", "Elastic", "ElasticBatchNorm2d", "ElasticConv2d", "ElasticLinear", "Flatten", "OneOf",
    "ElasticPart", "Region", "Repeat", "Residual", "Sequential", "ElasticSize", "Sized",
]  # fmt: skip


_renamed = renamed_names(__name__, Part="ElasticPart", Size="ElasticSize")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"raynas.layers.{_HOME[name]}"), name)
    return _renamed(name)
