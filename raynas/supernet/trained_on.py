"""A record of the images that weights were trained on, which must not be used to measure them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raynas.core import UserError
from raynas.data.base import DataView, Images

Hashes = NDArray[np.uint64]

#: its name among the arrays that are sent to workers, beside the weights
ARRAY = "raynas.trained_on"

_CURE = (
    "take the data, its split and the seed that they were trained with, or leave weights out, "
    "so that the run trains its own"
)


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """The training images of some weights, each as a hash of its pixels.

    With eight bytes per image, messages can say how many images of a split were trained on. Labels
    and the order of the images do not count.

    Attributes:
        hashes: (n,) uint64, sorted.
    """

    hashes: Hashes

    @classmethod
    def of(cls, images: Images) -> TrainedOn:
        """Return the hashes of ``images``.

        Args:
            images: The training images.
        """
        return cls(np.sort(_hashes(images)))

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that are equal for the same images in any order."""
        return hashlib.blake2b(self.hashes.astype("<u8").tobytes(), digest_size=8).hexdigest()

    def to_head(self) -> dict[str, Any]:
        """Return JSON data for the head of a file.

        Returns:
            ``images`` (their number), ``digest`` and ``hashes`` (base64).
        """
        content = base64.b64encode(self.hashes.astype("<u8").tobytes()).decode()
        return {"images": len(self.hashes), "digest": self.digest, "hashes": content}

    @classmethod
    def from_head(cls, head: Mapping[str, Any] | None) -> TrainedOn | None:
        """Read the data that :meth:`to_head` gave.

        Args:
            head: The JSON data; None when the file has none.

        Returns:
            The record; None for None.

        Raises:
            ValueError: When it is damaged.
            KeyError: When an entry is missing.
            TypeError: When an entry has the wrong type.
        """
        if head is None:
            return None
        content = base64.b64decode(head["hashes"], validate=True)
        found = cls(np.frombuffer(content, "<u8").astype(np.uint64))
        if found.digest != head["digest"]:
            raise ValueError(f"the images' hashes do not match their digest {head['digest']}")
        return found

    def expect(self, view: DataView, where: object) -> None:
        """Check that no held-out image of ``view`` was trained on.

        In a search the weights must be of exactly the training images of the view. Finalists are
        trained on the validation images as well, so there they must be of some of the training
        images. An image that is both held out and among the training images does not count as
        trained on: data sets have some images twice.

        Args:
            view: The view that the weights are used with.
            where: The file of the weights, for the message.

        Raises:
            UserError: When they were trained on other images; it says how many of the held-out
                images are among these.
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
            hint=_CURE,
        )


def _hashes(images: Images) -> Hashes:
    """Return (n,) hashes of the pixels of each image."""
    digests = (
        hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
        for image in images.pixels
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
