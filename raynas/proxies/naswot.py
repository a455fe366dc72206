"""NASWOT: how differently the ReLUs of a network respond to the images of a batch.

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

    Every ReLU that the network calls counts, also on paths that do not lead to the output. As in
    the authors' code, a ReLU counts twice when it is called first in a module named after it, such
    as a ReLUConvBN. The score is not normalised.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from raynas.proxies import Batch
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> batch = Batch(torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3]))
        >>> 0 < NASWOT()(network, batch) < 4 * 3.5  # at most n log(number of ReLU units)
        True
    """

    name: ClassVar[str] = "naswot"
    needs: ClassVar[Needs] = Needs.AGREEMENT

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch.

        Raises:
            InvalidScore: When two images have the same ReLU pattern.
            InvalidScore: When the network calls no ReLU.
        """
        agreement = probe.agreement
        twins = np.argwhere(np.triu(agreement == agreement.diagonal()[:, None], 1))
        if len(twins):
            i, j = twins[0]
            raise InvalidScore(f"images {i} and {j} have the same ReLU pattern: no determinant")
        return float(np.linalg.slogdet(agreement)[1])
