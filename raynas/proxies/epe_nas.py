"""EPE-NAS: how similar input gradients are within a class.

V. Lopes, S. Alirezazadeh, L. Alexandre, "EPE-NAS: Efficient Performance Estimation Without
Training for Neural Architecture Search", ICANN 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from raynas.core import InvalidScore, UserError
from raynas.core.fields import check_fields
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe
from raynas.proxies.jacob_cov import K, correlations

FEW_CLASSES = 100
"""Up to this number of classes the sums of the classes are added, above it they are compared."""


@dataclass(frozen=True)
class EPENAS(Proxy):
    """Sum over classes of the logarithms of the correlations of input gradients within the class.

    The paper uses batches of 256 images: a class with one image adds next to nothing.

    Attributes:
        classes: Number of classes of the data; None takes the network's number of logits.

    Raises:
        UserError: When ``classes`` is below 2.
    """

    name: ClassVar[str] = "epe_nas"
    needs: ClassVar[Needs] = Needs.GRADIENTS

    classes: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.classes is not None and self.classes < 2:
            raise UserError(f"EPENAS(classes={self.classes})", expected="from 2, or None")

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch with labels.

        Raises:
            InvalidScore: When no class has two images in the batch.
            InvalidScore: When all images are of one class, for data with more than 100 classes.
        """
        gradients = probe.input_gradient.cpu().numpy()
        labels = probe.batch.labels.cpu().numpy()
        classes = self.classes or probe.shared.logits.shape[1]
        sums, sizes = [], []
        for label in np.unique(labels):
            own = gradients[labels == label]
            sums.append(float(np.log(np.abs(correlations(own)) + K).sum()))
            sizes.append(len(own))
        if max(sizes) < 2:
            raise InvalidScore("no class has two images in the batch; take a larger one")
        if classes <= FEW_CLASSES:
            return sum(map(abs, sums))
        if len(sums) < 2:
            raise InvalidScore("all images of the batch are of one class; take a larger one")
        means = [total / size for total, size in zip(sums, sizes, strict=True)]
        return sum(abs(a - b) for a, b in combinations(means, 2)) / len(means)
