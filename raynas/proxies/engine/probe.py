"""A network and the passes that proxies share, each made once, when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.core import InvalidScore
from raynas.core.errors import first_line
from raynas.proxies.engine import passes
from raynas.proxies.engine.batch import Batch
from raynas.proxies.engine.passes import LayerCall, Norm, PassRecording, PassResult
from raynas.proxies.engine.relu_patterns import rows


def ends_all(error: Exception) -> bool:
    """Return whether ``error`` affects all proxies and not a single one.

    Args:
        error: An exception that a proxy has raised.

    Returns:
        True when memory is short or a GPU can no longer be used: other proxies would meet the same
        error, or get wrong numbers.
    """
    return isinstance(error, MemoryError) or type(error).__name__ in _ENDS_ALL


#: torch's errors for short memory and for a GPU that failed for good (not in all versions)
_ENDS_ALL = {"OutOfMemoryError", "AcceleratorError"}


class Needs(Flag):
    """The results of the shared pass that a proxy reads; the pass records what any proxy needs."""

    NOTHING = 0
    AGREEMENT = 1  # Probe.agreement
    GRADIENTS = 2  # Probe.gradients, Probe.input_gradient
    LAYERS = 4 | 2  # Probe.layers, Probe.output_gradients
    CURVATURE = 8 | 2  # Probe.curvature


class Probe:
    """A network with its own weights on one batch, in train mode.

    The network itself is not changed: passes get its tensors, or copies, from outside.

    Args:
        network: Turns images into logits.
        batch: The images and labels.
        needs: The results that the shared pass records.
        seed: Of networks that draw random numbers, and of proxies that draw weights or images.

    Attributes:
        network: The network.
        batch: The batch as given.
        images: (n, c, h, w) of the batch, in the memory format of this probe's passes.
        seed: The seed.
    """

    def __init__(
        self, network: nn.Module, batch: Batch, needs: Needs = Needs.NOTHING, seed: int = 0
    ) -> None:
        self.network, self.seed, self._needs = network, seed, needs
        self.batch = batch
        self.images = self.laid_out(batch.images.detach())
        self._shared: PassResult | None = None
        self._refused: InvalidScore | None = None
        self._no_curvature = ""

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The network's parameters, each as a leaf of its own.

        Returns:
            Name -> tensor.
        """
        return {
            name: self.laid_out(p.detach()).requires_grad_(p.is_floating_point())
            for name, p in self.network.named_parameters()
        }

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` in the memory format of this probe's passes.

        Channels last is faster. But on a CPU torch's batch norm then sums its statistics with
        errors that gradients magnify (GraSP: 10 %), so passes with gradients use the contiguous
        format.

        Args:
            tensor: Any tensor; those without four dimensions become contiguous.
        """
        if tensor.dim() != 4 or (self._with_gradients and tensor.device.type == "cpu"):
            return tensor.contiguous()
        return tensor.contiguous(memory_format=torch.channels_last)

    @cached_property
    def weight_names(self) -> tuple[str, ...]:
        """The names of weights of convolutions and linear layers.

        These are parameters of two or more dimensions. Embedding tables do not count. A layer need
        not be a module to be found.

        Returns:
            The names, in the network's order.

        Raises:
            InvalidScore: When there are none.
        """
        tables = {id(m.weight) for m in self.network.modules() if isinstance(m, nn.Embedding)}
        named = self.network.named_parameters()
        names = tuple(n for n, p in named if p.dim() >= 2 and id(p) not in tables)
        if not names:
            raise InvalidScore("the network has no weights")
        return names

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of :attr:`weight_names`.

        Returns:
            Name -> tensor.
        """
        return {name: self.parameters[name] for name in self.weight_names}

    @property
    def shared(self) -> PassResult:
        """The pass of the whole batch that proxies share.

        Returns:
            The pass, made when first asked for.

        Raises:
            InvalidScore: When two images of the batch are equal.
            InvalidScore: When the logits do not depend on the images.
            InvalidScore: When the network fails.
        """
        if self._refused is not None:
            raise self._refused
        if self._shared is None:
            try:
                self._shared = self._run_shared()
            except InvalidScore as reason:
                self._refused = reason
                raise
            except Exception as error:  # any kind: code of any network
                if ends_all(error):
                    raise
                self._refused = InvalidScore(first_line(error))
                raise self._refused from error
        return self._shared

    def refuse_equal_images(self) -> None:
        """Check that all images of the batch differ.

        Raises:
            InvalidScore: When two images are equal.
        """
        equal = self.batch.equal_images
        if equal is not None:
            raise InvalidScore(f"images {equal[0]} and {equal[1]} of the batch are equal")

    def _run_shared(self) -> PassResult:
        self.refuse_equal_images()
        watch = PassRecording.NOTHING
        if self._needs & Needs.AGREEMENT == Needs.AGREEMENT:
            watch |= PassRecording.AGREEMENT
        if self._needs & Needs.LAYERS == Needs.LAYERS:
            watch |= PassRecording.LAYERS
        images = self.images
        if self._with_gradients:
            self._leaf = images = images.detach().requires_grad_()
        found = self.run(images, watch=watch, gradients=self._with_gradients)
        if bool((found.logits == found.logits[:1]).all()):
            raise InvalidScore("no path from input to output: all images get the same logits")
        return found

    @property
    def _with_gradients(self) -> bool:
        return self._needs & Needs.GRADIENTS == Needs.GRADIENTS

    def run(
        self, images: Tensor, *, parameters: Mapping[str, Tensor] | None = None,
        watch: PassRecording = PassRecording.NOTHING, norm: Norm = "batch", gradients: bool = False,
    ) -> PassResult:  # fmt: skip
        """Run a pass of other images, or with other parameters; see :func:`passes.run`.

        Args:
            images: (n, c, h, w).
            parameters: Name -> tensor; None takes the network's own.
            watch: The results to record.
            norm: Whether batch norms use the batch's statistics or are switched off.
            gradients: Whether gradients are recorded.

        Returns:
            The pass.

        Raises:
            InvalidScore: When the network gives no valid logits.
        """
        return passes.run(
            self.network, images, parameters=self.parameters if parameters is None else parameters,
            watch=watch, norm=norm, gradients=gradients, seed=self.seed,
            num_classes=self.batch.num_classes,
        )  # fmt: skip

    # -- what the shared pass gives --------------------------------------------------------------

    @property
    def agreement(self) -> NDArray[np.float64]:
        """The number of ReLUs at which two images are on the same side of zero.

        Returns:
            (n, n) float64.

        Raises:
            InvalidScore: When the network calls no ReLU with a row per image.
        """
        found = self.shared
        if not found.relus or found.agreement is None:
            others = ", ".join(sorted(found.activations)) or "none at all"
            raise InvalidScore(f"no ReLU was called with a row per image; activations: {others}")
        return found.agreement

    @property
    def layers(self) -> list[LayerCall]:
        """The calls of convolutions and linear layers, in their order."""
        return self.shared.layers

    @cached_property
    def input_gradient(self) -> Tensor:
        """The gradient of the summed logits with respect to the images.

        Batch norm couples the images; the gradient is that of the sum over all of them.

        Returns:
            (n, pixels), a row per image.

        Raises:
            InvalidScore: When the gradient is zero.
        """
        logits = self.shared.logits
        (gradient,) = torch.autograd.grad(logits.sum(), self._leaf, retain_graph=True)
        if not bool(gradient.any()):
            raise InvalidScore("the logits have no gradient with respect to the images")
        return rows(gradient)

    @cached_property
    def loss(self) -> Tensor:
        """The cross entropy of the batch in nats, a scalar."""
        return self.cross_entropy(self.shared.logits, self.batch.labels)

    @staticmethod
    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy in nats.

        Args:
            logits: (n, classes).
            labels: (n,) int64.

        Returns:
            A scalar.

        Raises:
            InvalidScore: When a label is not below the number of logits.
        """
        if int(labels.max()) >= logits.shape[1]:
            raise InvalidScore(f"label {int(labels.max())}, but {logits.shape[1]} logits")
        return F.cross_entropy(logits, labels)

    @cached_property
    def _gradients(self) -> dict[str, Tensor]:
        """The gradients of the loss: for weights by name, for layer outputs by ``output N``."""
        wanted = self.weights
        if self._needs & Needs.LAYERS == Needs.LAYERS:
            wanted |= {f"output {i}": layer.output for i, layer in enumerate(self.layers)}
        if self._needs & Needs.CURVATURE != Needs.CURVATURE:
            return _gradients(self.loss, wanted)
        try:
            return _gradients(self.loss, wanted, create_graph=True)
        except InvalidScore:
            raise
        except Exception as error:  # any kind: autograd code of any network
            if ends_all(error):
                raise
            self._no_curvature = first_line(error)
            return _gradients(self.loss, wanted)

    @property
    def gradients(self) -> dict[str, Tensor]:
        """The gradient of the loss for each weight; zero where the loss does not depend on it.

        Returns:
            Name -> tensor.

        Raises:
            InvalidScore: When a gradient is not finite.
        """
        return {name: self._gradients[name].detach() for name in self.weight_names}

    @property
    def output_gradients(self) -> list[Tensor]:
        """The gradients of the loss with respect to the outputs of :attr:`layers`.

        Returns:
            One tensor per layer call.
        """
        return [self._gradients[f"output {i}"].detach() for i in range(len(self.layers))]

    @cached_property
    def curvature(self) -> dict[str, Tensor]:
        """The Hessian of the loss times its gradient, for each weight.

        Returns:
            Name -> tensor.

        Raises:
            InvalidScore: When the network has no second derivatives.
            InvalidScore: When the gradient does not depend on the weights.
        """
        gradients = {name: self._gradients[name] for name in self.weight_names}
        if self._no_curvature:
            raise InvalidScore(self._no_curvature)
        length = sum((g.detach() * g).sum() for g in gradients.values() if g.requires_grad)
        if not isinstance(length, Tensor):
            raise InvalidScore("the gradient does not depend on the weights")
        return _gradients(length, self.weights)


def _gradients(
    value: Tensor, wanted: Mapping[str, Tensor], *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Return name -> gradient of ``value``; zero for tensors that it does not depend on."""
    names = [name for name, tensor in wanted.items() if tensor.requires_grad]
    found = torch.autograd.grad(
        value, [wanted[n] for n in names], retain_graph=True, create_graph=create_graph,
        allow_unused=True,
    )  # fmt: skip
    given = dict(zip(names, found, strict=True))
    filled: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        gradient = given.get(name)
        filled[name] = torch.zeros_like(tensor) if gradient is None else gradient
    if not all(bool(torch.isfinite(g).all()) for g in filled.values()):
        raise InvalidScore("a gradient is not finite")
    return filled
