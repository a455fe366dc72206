"""The batch of images that a network is scored on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from raynas.core import UserError, rng_for
from raynas.data.base import DataView


@dataclass(frozen=True)
class Batch:
    """A batch of images and labels that networks are scored on.

    Attributes:
        images: (n, channels, height, width) float32, normalised.
        labels: (n,) int64.
        num_classes: Number of classes of the task. It tells logits (n, num_classes) from other
            tensors that a network puts out; None takes the only tensor of two dimensions.

    Raises:
        UserError: When images or labels have other shapes.
        UserError: When a label is not below ``num_classes``.

    Example:
        >>> import torch
        >>> batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), num_classes=10)
        >>> len(batch), batch.equal_images
        (2, (0, 1))
    """

    images: Tensor
    labels: Tensor
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise UserError(
                f"Batch of images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}",
                expected="images (n, channels, height, width) and labels (n,)",
            )
        if self.num_classes is not None and not int(self.labels.max()) < self.num_classes:
            raise UserError(
                f"Batch with label {int(self.labels.max())} and num_classes={self.num_classes}",
                expected="labels 0 to num_classes - 1",
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def equal_images(self) -> tuple[int, int] | None:
        """The first pair of equal images.

        Returns:
            Their two numbers; None when all images differ.
        """
        seen: dict[bytes, int] = {}
        for i, image in enumerate(self.images.cpu().numpy()):
            first = seen.setdefault(image.tobytes(), i)
            if first != i:
                return first, i
        return None

    @classmethod
    def draw(cls, view: DataView, size: int, seed: int = 0) -> Batch:
        """Draw different training images of a view, normalised and not augmented.

        Args:
            view: The view to draw from.
            size: Number of images, at least 2.
            seed: Of the draw.

        Returns:
            The batch, on the CPU.

        Raises:
            UserError: When ``size`` is below 2 or above the number of training images.
        """
        if not 2 <= size <= len(view.train):
            raise UserError(
                f"a batch of {size} images from {len(view.train)}",
                expected="2 or more images, all different",
            )
        chosen = rng_for(seed, "batch").choice(len(view.train), size, replace=False)
        pixels = torch.tensor(view.train.pixels[chosen]).permute(0, 3, 1, 2).float()
        mean = torch.tensor(view.mean).view(1, -1, 1, 1)
        std = torch.tensor(view.std).view(1, -1, 1, 1)
        labels = torch.tensor(view.train.labels[chosen])
        return cls((pixels - mean) / std, labels, view.num_classes)

    def to(self, device: str | torch.device) -> Batch:
        """Return a copy of the batch on ``device``.

        Args:
            device: A torch device.
        """
        return Batch(self.images.to(device), self.labels.to(device), self.num_classes)
