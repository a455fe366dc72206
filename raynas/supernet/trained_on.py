"""Which images weights were trained on: what is measured with them must not be among these."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.data.base import Images, View

Hashes = NDArray[np.uint64]

#: in the arrays that are sent to workers, beside the weights
ARRAY = "raynas.trained_on"

_CURE = (
    "take the data, its split and the seed that they were trained with, or leave weights out, "
    "so that the run trains its own"
)


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """The training images of some weights, each as a hash of its pixels.

    ``hashes``: (n,) uint64, sorted; eight bytes an image, so that it can be said how many images of
    a split were trained on. Labels and the order of the images do not count.
    """

    hashes: Hashes

    @classmethod
    def of(cls, images: Images) -> TrainedOn:
        """Take the hashes of ``images``."""
        return cls(np.sort(_hashes(images)))

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits, equal for the same images in any order."""
        return hashlib.blake2b(self.hashes.astype("<u8").tobytes(), digest_size=8).hexdigest()

    def to_head(self) -> dict[str, Any]:
        """JSON data for the head of a file."""
        content = base64.b64encode(self.hashes.astype("<u8").tobytes()).decode()
        return {"images": len(self.hashes), "digest": self.digest, "hashes": content}

    @classmethod
    def from_head(cls, head: Mapping[str, Any] | None) -> TrainedOn | None:
        """Read what :meth:`to_head` gave; None where there is nothing.

        Raises: ValueError, KeyError, TypeError when it is damaged.
        """
        if head is None:
            return None
        content = base64.b64decode(head["hashes"], validate=True)
        found = cls(np.frombuffer(content, "<u8").astype(np.uint64))
        if found.digest != head["digest"]:
            raise ValueError(f"the images' hashes do not match their digest {head['digest']}")
        return found

    def expect(self, view: View, where: object) -> None:
        """See that nothing that is held out in ``view`` was trained on.

        In a search the weights must be of the very training images of the view. Finalists are
        trained on the validation images as well, so there they must be of some of the training
        images. An image that is held out and among the training images itself does not count as
        trained on: data sets have some images twice.

        Args:
            view: What the weights are used with.
            where: Their file, for the message.

        Raises:
            UserError: When they were trained on other images, saying how many of the held-out ones
                are among these.
        """
        own = TrainedOn.of(view.train)
        if own.digest == self.digest:
            return
        strange = ~np.isin(self.hashes, own.hashes)
        if view.held_out_name == "test" and not strange.any():
            return
        held_out = _hashes(view.held_out)
        seen = np.isin(held_out, self.hashes) & ~np.isin(held_out, own.hashes)
        split = {"val": "validation", "test": "test"}[view.held_out_name]
        share = f"{seen.sum():,} of {len(held_out):,} ({100 * seen.mean():.0f} %)"
        raise UserError(
            f"the weights in {where} were trained on other images than those of this run: "
            f"{strange.sum():,} of their {len(strange):,} are not among its {len(own.hashes):,} "
            f"training images, and {share} of its {split} images were trained on",
            cure=_CURE,
        )


def _hashes(images: Images) -> Hashes:
    """(n,) of the pixels of each image."""
    digests = (
        hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
        for image in images.pixels
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
