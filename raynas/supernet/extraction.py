"""Extraction of a subnet as a network of its own, checked to compute the same as the supernet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raynas.core import Architecture, RaynasError
from raynas.costs.count import MacCounter, count_trainable
from raynas.spaces.supernet import Supernet
from raynas.training.diagnosis import why_it_differs

TOLERANCE = 1e-5


def extract_checked(
    supernet: Supernet, arch: Architecture, seed: int = 0, images: Tensor | None = None
) -> tuple[nn.Module, float]:
    """Return the plain network of a subnet with the supernet's weights, checked.

    Args:
        supernet: It is not changed.
        arch: An architecture of its space.
        seed: Of random images.
        images: (n, *input_shape) of the data; None draws two random ones by ``seed``.

    Returns:
        The network in eval mode, and the largest absolute difference of its logits to the
        supernet's.

    Raises:
        RaynasError: When the logits differ by more than 1e-5 (of the largest logit, if that is
            above 1).
        RaynasError: When the network has other parameters or multiply-adds than the space counts.
        UserError: When the architecture is of another space.
    """
    training = supernet.training
    supernet.eval()
    try:
        network = supernet.extract(arch).eval()
        device = next(supernet.parameters()).device
        if images is None:
            generator = torch.Generator().manual_seed(seed)
            images = torch.randn(2, *supernet.input_shape, generator=generator)
        images = images.to(device)
        with torch.no_grad(), MacCounter() as counter:
            network(images[:1])
        with torch.inference_mode():
            wanted, found = supernet(images, arch), network(images)
    finally:
        supernet.train(training)
    difference = float((wanted - found).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):  # also for NaN
        if reason := why_it_differs(network, images):
            raise RaynasError(f"the network taken out for {arch}: {reason}")
        raise RaynasError(
            f"the network taken out for {arch} computes other outputs than the supernet: logits "
            f"differ by {difference:g}"
        )
    trained, every = count_trainable(network), sum(p.numel() for p in network.parameters())
    counted = supernet.space.costs(arch, supernet.input_shape, supernet.num_classes)
    # a space may count frozen weights too, and a supernet may be frozen after it was made
    if counted.params not in (trained, every) or counter.macs != counted.macs:
        raise RaynasError(
            f"the network taken out for {arch} has {trained:,} parameters and {counter.macs:,} "
            f"MACs, not {counted.params:,} and {counted.macs:,} as the space counts them"
        )
    return network, difference
