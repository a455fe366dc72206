"""The batch of images that a network is scored on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from raynas.core import UserError, rng_for
from raynas.data.base import View


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
