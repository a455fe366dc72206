"""A subnet of its own: taken out of the supernet, and seen to be what the supernet computes."""

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
    """The plain network of ``arch`` with its weights, in eval mode, and by how much its logits
    differ from the supernet's at most. The supernet stays as it is.

    ``images``: (n, *input_shape) of the data; None draws two random ones by ``seed``.
    Raises: RaynasError when they differ by more than 1e-5 (of the largest logit, if that is above
    1), or when the network has other parameters or multiply-adds than the space counts; UserError
    for an architecture of another space.
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
            f"the network taken out for {arch} computes something else than the supernet: logits "
            f"differ by {difference:g}"
        )
    trained, every = count_trainable(network), sum(p.numel() for p in network.parameters())
    counted = supernet.space.costs(arch, supernet.input_shape, supernet.num_classes)
    # a space may count what is frozen, too, and a supernet be frozen after it was made
    if counted.params not in (trained, every) or counter.macs != counted.macs:
        raise RaynasError(
            f"the network taken out for {arch} has {trained:,} parameters and {counter.macs:,} "
            f"MACs, not {counted.params:,} and {counted.macs:,} as the space counts them"
        )
    return network, difference
