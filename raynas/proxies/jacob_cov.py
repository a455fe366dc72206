"""Jacobian covariance, the first version of NASWOT.

J. Mellor, J. Turner, A. Storkey, E. Crowley, "Neural Architecture Search without Training",
arXiv:2006.04647v1 (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe

K = 1e-5
"""A constant that keeps log and quotient finite for eigenvalues of 0, as in the paper's code."""


@dataclass(frozen=True)
class JacobCov(Proxy):
    """Decorrelation of the images' input gradients: -sum(log(v + k) + 1 / (v + k)).

    v: eigenvalues of the correlation matrix of the gradients of the summed logits; k: 1e-5.
    """

    name: ClassVar[str] = "jacob_cov"
    needs: ClassVar[Needs] = Needs.GRADIENTS

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch.

        Raises:
            InvalidScore: When an image has a constant input gradient.
        """
        values = np.linalg.eigvalsh(correlations(probe.input_gradient.cpu().numpy()))
        return -float(np.sum(np.log(values + K) + 1 / (values + K)))


def correlations(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the correlation matrix of rows.

    Args:
        rows: (n, d).

    Returns:
        (n, n) float64, from -1 to 1.

    Raises:
        InvalidScore: When a row is constant: its correlation is not defined.
    """
    centred = rows.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1)
    if not lengths.all():
        raise InvalidScore(f"image {int(np.argmin(lengths))} has a constant input gradient")
    centred /= lengths[:, None]
    return centred @ centred.T
