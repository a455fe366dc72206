"""The contract of a proxy: a score of an untrained network, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raynas.core import InvalidScore, Metric, UserError, rng_for
from raynas.core.metrics import SCORE_UNIT
from raynas.core.ranks import Table
from raynas.data.base import View
from raynas.proxies.engine.probe import Needs, Probe


@dataclass(frozen=True)
class Batch:
    """Images that a network is scored on, and their labels.

    Args:
        images: (n, channels, height, width) float32, normalised.
        labels: (n,) int64.
        num_classes: How many classes the task has. It tells logits (n, num_classes) from other
            tensors that a network puts out; None takes the only tensor of two dimensions.

    Raises:
        UserError: For other shapes, or fewer classes than a label says.
    """

    images: Tensor
    labels: Tensor
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise UserError(
                f"Batch of images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}",
                allowed="images (n, channels, height, width) and labels (n,)",
            )
        if self.num_classes is not None and not int(self.labels.max()) < self.num_classes:
            raise UserError(
                f"Batch with label {int(self.labels.max())} and num_classes={self.num_classes}",
                allowed="labels 0 to num_classes - 1",
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def equal_images(self) -> tuple[int, int] | None:
        """The numbers of two equal images, or None."""
        seen: dict[bytes, int] = {}
        for i, image in enumerate(self.images.cpu().numpy()):
            first = seen.setdefault(image.tobytes(), i)
            if first != i:
                return first, i
        return None

    @classmethod
    def draw(cls, view: View, size: int, seed: int = 0) -> Batch:
        """``size`` different training images of the view, normalised, not augmented."""
        if not 2 <= size <= len(view.train):
            raise UserError(
                f"a batch of {size} images from {len(view.train)}", allowed="2 or more, all differ"
            )
        chosen = rng_for(seed, "batch").choice(len(view.train), size, replace=False)
        pixels = torch.tensor(view.train.pixels[chosen]).permute(0, 3, 1, 2).float()
        mean = torch.tensor(view.mean).view(1, -1, 1, 1)
        std = torch.tensor(view.std).view(1, -1, 1, 1)
        labels = torch.tensor(view.train.labels[chosen])
        return cls((pixels - mean) / std, labels, view.num_classes)

    def to(self, device: str | torch.device) -> Batch:
        return Batch(self.images.to(device), self.labels.to(device), self.num_classes)


class Proxy(ABC):
    """A score of a network that is not trained, from one batch.

    ``proxy(network, batch)`` works for any ``nn.Module`` that turns images into logits and leaves
    it as it was. Several proxies of one network are cheaper by :func:`raynas.proxies.score`,
    which shares passes: ``needs`` says which this one uses, :meth:`measure` takes them from the
    probe. Subclasses are frozen dataclasses whose fields are settings.

    A proxy that only ranks networks against each other has several ``parts``, numbers of one
    network that :meth:`combine` turns into scores of a population.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.NOTHING

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the numbers that :meth:`measure` gives; for most proxies its own name."""
        return (self.name,)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """A column of the store for each part."""
        doc = " ".join((type(self).__doc__ or "").strip().split("\n\n")[0].split())
        return tuple(Metric(part, SCORE_UNIT, "max", doc) for part in self.parts)

    @abstractmethod
    def measure(self, probe: Probe) -> float | Mapping[str, float]:
        """The score, or part -> number. Raises: InvalidScore with the reason."""

    def combine(self, table: Table) -> NDArray[np.float64]:
        """(n,) scores of n networks from their parts; comparable within this table only."""
        return np.asarray(table[self.name], dtype=np.float64)

    def __call__(self, network: nn.Module, batch: Batch) -> float:
        """The score of ``network`` on ``batch``; higher is better.

        Raises: InvalidScore where there is none; a proxy with several parts has none for a
        network alone.
        """
        if len(self.parts) > 1:
            raise InvalidScore(
                f"{self.name} ranks networks against each other and gives one alone no score; "
                f"score several with {', '.join(self.parts)} and combine their ranks"
            )
        from raynas.proxies.engine.scoring import score

        return score(network, batch, (self,)).value(self.name)
