"""Zero-shot proxies: scores of untrained networks, one paper per file, higher is better.

Adding a proxy takes a file in this folder and a line in ``_HOME``. torch is imported when the
first name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raynas.core.renamed import renamed_names

if TYPE_CHECKING:
    from raynas.proxies.az_nas import AZNAS
    from raynas.proxies.base import Proxy, check_proxies
    from raynas.proxies.engine.batch import Batch
    from raynas.proxies.engine.probe import Needs, Probe
    from raynas.proxies.engine.scoring import NetworkScores, score
    from raynas.proxies.epe_nas import EPENAS
    from raynas.proxies.fisher import Fisher
    from raynas.proxies.grad_norm import GradNorm
    from raynas.proxies.grasp import GraSP
    from raynas.proxies.jacob_cov import JacobCov
    from raynas.proxies.l2_norm import L2Norm
    from raynas.proxies.macs import MACs
    from raynas.proxies.meco import MeCo
    from raynas.proxies.naswot import NASWOT
    from raynas.proxies.params import Params
    from raynas.proxies.plain import Plain
    from raynas.proxies.snip import SNIP
    from raynas.proxies.synflow import SynFlow
    from raynas.proxies.te_nas import TENAS
    from raynas.proxies.zen import ZenScore
    from raynas.proxies.zico import ZiCo

# proxy -> the module of this package that defines it
_HOME = {
    "NASWOT": "naswot",
    "ZenScore": "zen",
    "EPENAS": "epe_nas",
    "JacobCov": "jacob_cov",
    "SynFlow": "synflow",
    "SNIP": "snip",
    "GraSP": "grasp",
    "Fisher": "fisher",
    "GradNorm": "grad_norm",
    "L2Norm": "l2_norm",
    "Plain": "plain",
    "ZiCo": "zico",
    "TENAS": "te_nas",
    "AZNAS": "az_nas",
    "MeCo": "meco",
    "Params": "params",
    "MACs": "macs",
}
_MORE = {
    "Batch": "engine.batch",
    "Proxy": "base",
    "Needs": "engine.probe",
    "Probe": "engine.probe",
    "NetworkScores": "engine.scoring",
    "check_proxies": "base",
    "score": "engine.scoring",
}

__all__ = [
    "AZNAS",
    "EPENAS",
    "NASWOT",
    "SNIP",
    "TENAS",
    "Batch",
    "Fisher",
    "GraSP",
    "GradNorm",
    "JacobCov",
    "L2Norm",
    "MACs",
    "MeCo",
    "Needs",
    "Params",
    "Plain",
    "Probe",
    "Proxy",
    "NetworkScores",
    "SynFlow",
    "ZenScore",
    "ZiCo",
    "check_proxies",
    "proxies",
    "score",
]


_renamed = renamed_names(__name__, Scores="NetworkScores")


def __getattr__(name: str) -> Any:
    module = _HOME.get(name) or _MORE.get(name)
    if module is None:
        return _renamed(name)
    return getattr(import_module(f"{__name__}.{module}"), name)


def proxies() -> dict[str, type[Proxy]]:
    """Return every proxy of raynas.

    Returns:
        Name -> class.
    """
    classes: list[type[Proxy]] = [__getattr__(name) for name in _HOME]
    return {cls.name: cls for cls in classes}
