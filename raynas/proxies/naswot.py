"""NASWOT: how differently a network's ReLUs see the images of a batch.

J. Mellor, J. Turner, A. Storkey, E. Crowley, "Neural Architecture Search without Training",
ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class NASWOT(Proxy):
    """Log-determinant of the matrix that counts at how many ReLUs two images agree.

    Every ReLU that the network calls counts, on paths that lead nowhere, too; as in the authors'
    code twice where a module called after it, such as a ReLUConvBN, begins with it. Not
    normalised.
    """

    name: ClassVar[str] = "naswot"
    needs: ClassVar[Needs] = Needs.AGREEMENT

    def measure(self, probe: Probe) -> float:
        agreement = probe.agreement
        twins = np.argwhere(np.triu(agreement == agreement.diagonal()[:, None], 1))
        if len(twins):
            i, j = twins[0]
            raise InvalidScore(f"images {i} and {j} have the same ReLU pattern: no determinant")
        return float(np.linalg.slogdet(agreement)[1])
