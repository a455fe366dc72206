"""ZiCo: networks whose gradients are large and vary little from batch to batch train well.

G. Li, Y. Yang, K. Bhardwaj, R. Marculescu, "ZiCo: Zero-shot NAS via Inverse Coefficient of
Variation on Gradients", ICLR 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from raynas.core import InvalidScore
from raynas.proxies.base import Proxy
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class ZiCo(Proxy):
    """Sum over layers of log sum over weights of mean |g| / std g, over two batches.

    The two batches are the halves of the batch; g is the gradient of the cross entropy, and
    weights whose gradient does not vary are left out.
    """

    name: ClassVar[str] = "zico"
    needs: ClassVar[Needs] = Needs.GRADIENTS  # for its own passes, in the exact memory format

    def measure(self, probe: Probe) -> float:
        """Return the score of one network.

        Args:
            probe: The network and a batch of at least 4 images with labels.

        Raises:
            InvalidScore: When the batch has fewer than 4 images, or two equal ones.
            InvalidScore: When no gradient varies between the two halves.
        """
        if len(probe.batch) < 4:
            raise InvalidScore(
                f"a batch of {len(probe.batch)} images cannot be split into two halves"
            )
        probe.refuse_equal_images()
        half = len(probe.batch) // 2
        first, second = (self._gradients(probe, part) for part in (slice(half), slice(half, None)))
        logs = []
        for a, b in zip(first, second, strict=True):
            if a is None or b is None:
                continue
            spread = (a - b).abs() / 2
            varies = spread > 0
            total = float((((a.abs() + b.abs()) / 2)[varies] / spread[varies]).double().sum())
            if total > 0:
                logs.append(math.log(total))
        if not logs:
            raise InvalidScore("no gradient varies between the two halves of the batch")
        return sum(logs)

    def _gradients(self, probe: Probe, part: slice) -> tuple[torch.Tensor | None, ...]:
        found = probe.run(probe.images[part], gradients=True)
        loss = probe.cross_entropy(found.logits, probe.batch.labels[part])
        weights = [probe.parameters[name] for name in probe.weight_names]
        return torch.autograd.grad(loss, weights, allow_unused=True)
