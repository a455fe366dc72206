"""One recorded pass of images through any network, without a change of the network.

The pass runs the network's own code, but with weights and buffers given from outside
(``torch.func.functional_call``), and sees every torch function that the network calls, in modules
or not. So nothing has to be restored: weights, statistics and gradients are never changed. Mode
and random state are restored.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from raynas.core import InvalidScore
from raynas.proxies.engine.batch_norm import is_slow_in_torch, moments, normalised
from raynas.proxies.engine.blocks import watched_blocks
from raynas.proxies.engine.relu_patterns import ReLUAgreement, ReLUCodes, same_memory

Norm = Literal["batch", "off"]


class PassRecording(Flag):
    """The results that a pass records beside the logits."""

    NOTHING = 0
    AGREEMENT = auto()  # agreement of the images' ReLU patterns
    PATTERNS = auto()  # the ReLU patterns themselves, as a number per image
    LAYERS = auto()  # outputs of convolutions and linear layers
    NORMS = auto()  # variances of the inputs of batch norms
    BLOCKS = auto()  # the input of the first block and the output of every block
    FEATURES = auto()  # the last feature map before pooling


@dataclass(frozen=True)
class LayerCall:
    """A call of a convolution or linear layer.

    Attributes:
        weight: The weight of the call.
        output: The output of the call.
    """

    weight: Tensor
    output: Tensor


@dataclass
class PassResult:
    """The results of a pass; results that were not recorded are empty.

    Attributes:
        parameters: Name -> tensor that the pass was run with.
        logits: (n, classes).
        agreement: (n, n) float64, the number of ReLUs at which two images are on the same side.
        codes: (n, 2) float64, equal for images with equal ReLU patterns.
        relus: ReLU units per image.
        layers: The calls of convolutions and linear layers.
        variances: (channels,) unbiased, one per batch norm.
        blocks: The input of the first block and the output of every block.
        features: (n, c, h, w), the last feature map before pooling.
        activations: How often each activation function was called, by name.
    """

    parameters: Mapping[str, Tensor]
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    agreement: NDArray[np.float64] | None = None
    codes: Tensor | None = None
    relus: int = 0
    layers: list[LayerCall] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)
    features: Tensor | None = None
    activations: Counter[str] = field(default_factory=Counter)


def run(
    network: nn.Module,
    images: Tensor,
    *,
    parameters: Mapping[str, Tensor],
    watch: PassRecording = PassRecording.NOTHING,
    norm: Norm = "batch",
    gradients: bool = False,
    seed: int = 0,
    num_classes: int | None = None,
) -> PassResult:
    """Send images through a network in train mode, with given parameters.

    Args:
        network: Turns images into logits; it is not changed.
        images: (n, c, h, w).
        parameters: Name -> tensor, for all parameters of the network.
        watch: The results to record.
        norm: "batch": batch norms use the batch's own statistics; "off": they are switched off.
        gradients: Whether gradients are recorded.
        seed: For networks that draw random numbers (dropout).
        num_classes: Of the logits, (n, num_classes); None takes the only tensor (n, anything).

    Returns:
        The recorded pass.

    Raises:
        InvalidScore: When the network gives no tensor of logits, or several that may be logits.
        InvalidScore: When the logits are not finite.
    """
    found = PassResult(parameters)
    named = _Named(network) if watch & PassRecording.AGREEMENT else contextlib.nullcontext()
    tracer = _Tracer(found, watch, norm, len(images), getattr(named, "inputs", ()))
    buffers = {name: b.to(_cast(b, images)).clone() for name, b in network.named_buffers()}
    with (
        torch.set_grad_enabled(gradients),
        _seeded(images.device, seed),
        _train_mode(network),
        watched_blocks(network, found.blocks, bool(watch & PassRecording.BLOCKS)),
        named,
        tracer,
    ):
        # a copy, since a network may change its input in place
        out = functional_call(network, ({**parameters}, buffers), (images.clone(),))
    tracer.finish()
    found.logits = _logits(out, len(images), num_classes)
    return found


def _cast(buffer: Tensor, images: Tensor) -> torch.dtype:
    return images.dtype if buffer.is_floating_point() else buffer.dtype


def _logits(out: object, count: int, num_classes: int | None) -> Tensor:
    """Pick the logits out of a network's output: the first tensor of the task's shape."""
    tensors = [o for o in _parts(out) if isinstance(o, Tensor)]
    wide = [o for o in tensors if o.dim() == 2 and o.shape[0] == count]
    fit = [o for o in wide if num_classes in (None, o.shape[1])]
    shown = ", ".join(str(tuple(o.shape)) for o in tensors) or type(out).__name__
    if not fit:
        wanted = f"({count}, {'classes' if num_classes is None else num_classes})"
        raise InvalidScore(f"the network gives {shown}, not logits of shape {wanted}")
    if num_classes is None and len(fit) > 1:
        raise InvalidScore(
            f"the network gives {shown}, of which several may be logits: "
            "say which, by Batch(images, labels, num_classes)"
        )
    if not bool(torch.isfinite(fit[0]).all()):
        raise InvalidScore("the logits are not finite")
    return fit[0]


def _parts(out: object) -> Sequence[object]:
    """Return the parts of a network's output: some networks give several, in a list or a dict."""
    if isinstance(out, Mapping):
        return tuple(out.values())
    return out if isinstance(out, tuple | list) else (out,)


@contextlib.contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def _train_mode(network: nn.Module) -> Iterator[None]:
    """Set train mode on each module alone: a network may override ``train()`` to do more."""
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = True
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Named:
    """A record of the inputs of running modules with "ReLU" in their class name that are no ReLU.

    The authors of NASWOT find ReLUs by this name, so that a ReLU inside a ``ReLUConvBN`` counts
    twice: for itself, and for the module around it that has the same input.
    """

    def __init__(self, network: nn.Module) -> None:
        self.inputs: list[Tensor] = []
        self._modules = [
            m for m in network.modules()
            if "ReLU" in type(m).__name__ and any(True for _ in m.children())
        ]  # fmt: skip
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for module in self._modules:
            self._handles += [
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(lambda _m, _given, _out: self._leave()),
            ]

    def _enter(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.inputs.append(next(iter((*args, *kwargs.values())), torch.empty(0)))

    def _leave(self) -> None:
        self.inputs.pop()

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


# -- watching torch functions ------------------------------------------------------------------

_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLAMP = {
    torch.clamp, Tensor.clamp, Tensor.clamp_, torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_,
}  # fmt: skip
_LINEAR = {
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d,
    torch.conv_transpose3d, F.linear,
}  # fmt: skip
_BATCH_NORM: dict[Callable[..., Any], tuple[str, ...]] = {  # function -> its arguments' names
    F.batch_norm: (
        "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
    ),
    torch.batch_norm: (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps",
    ),
}  # fmt: skip
_BY_IMAGE = {torch.conv2d, F.avg_pool2d}  # expensive functions that treat each image alone
_ACTIVATIONS = {
    "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu",
    "mish", "hardswish", "softplus", "tanh", "sigmoid", "hardsigmoid",
}  # fmt: skip


class _Tracer(TorchFunctionMode):
    """A mode that sees every torch function that the network calls, and replaces batch norm."""

    def __init__(
        self,
        found: PassResult,
        watch: PassRecording,
        norm: Norm,
        images: int,
        named: Sequence[Tensor],
    ) -> None:
        super().__init__()
        self._found, self._watch, self._norm, self._n = found, watch, norm, images
        self._named = named
        self._agreement = ReLUAgreement(images) if watch & PassRecording.AGREEMENT else None
        self._codes = ReLUCodes(images) if watch & PassRecording.PATTERNS else None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _BATCH_NORM:
            return self._batch_norm(func, args, kwargs)
        if func in _RELU or (func in _CLAMP and _is_relu(args, kwargs)):
            self._relu(args[0] if args else kwargs["input"])
        elif (name := getattr(func, "__name__", "").rstrip("_")) in _ACTIVATIONS:
            relu6 = name == "hardtanh" and (kwargs.get("min_val"), kwargs.get("max_val")) == (0, 6)
            self._found.activations["relu6" if relu6 else name] += 1
        out = _of_nothing(func, args, kwargs) if func in _BY_IMAGE else None
        out = func(*args, **kwargs) if out is None else out
        if func in _LINEAR and self._watch & PassRecording.LAYERS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self._found.layers.append(LayerCall(weight, out))
            out = out.clone()  # the network may change it in place
        if self._watch & PassRecording.FEATURES and args and _pools(args[0], out):
            self._found.features = args[0]
        return out

    def _relu(self, x: Tensor) -> None:
        self._found.activations["relu"] += 1
        if x.dim() < 2 or x.shape[0] != self._n:  # not one row per image
            return
        if self._agreement is not None:
            times = 1 + sum(same_memory(t, x._version, x) for t in self._named)
            self._agreement.add(x.detach(), times)
        if self._codes is not None:
            self._codes.add(x.detach())

    def _batch_norm(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Tensor:
        names = _BATCH_NORM[func]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x: Tensor = given["input"]
        if self._norm == "off":
            return x
        if x.numel() == x.shape[1]:
            raise InvalidScore("a batch norm gets one value per channel, which has no variance")
        eps, weight, bias = given.get("eps", 1e-5), given.get("weight"), given.get("bias")
        fast = not torch.is_grad_enabled() and is_slow_in_torch(x)
        if fast or self._watch & PassRecording.NORMS:
            mean, variance = moments(x.detach())
        if self._watch & PassRecording.NORMS:
            count = x.numel() // x.shape[1]
            self._found.variances.append(variance * (count / (count - 1)))
        if fast:
            return normalised(x, mean, variance + eps, weight, bias)
        out: Tensor = F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
        return out

    def finish(self) -> None:
        """Copy the collected ReLU patterns to the pass."""
        if self._agreement is not None:
            self._found.agreement = self._agreement.matrix()
            self._found.relus = self._agreement.units
        if self._codes is not None:
            self._found.codes = self._codes.codes


def _is_relu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a clamp is a ReLU: from zero, without an upper limit."""
    given = {**dict(zip(("input", "min", "max"), args, strict=False)), **kwargs}
    low, high = given.get("min"), given.get("max")
    return isinstance(low, int | float) and low == 0 and high is None


def _pools(x: object, out: object) -> bool:
    """Return whether a function takes a feature map and removes its two spatial dimensions."""
    if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[2] * x.shape[3] < 2:
        return False
    if not isinstance(out, Tensor) or out.shape[:1] != x.shape[:1]:
        return False
    return out.dim() < 4 or (out.shape[2] * out.shape[3] == 1 and out.shape[1] == x.shape[1])


def _of_nothing(func: Callable[..., Any], args: Any, kwargs: Any) -> Tensor | None:
    """Return the output for feature maps that are zero, computed from one image and repeated.

    Search cells have nodes without inputs. None for other feature maps.
    """
    x = args[0] if args else None
    if torch.is_grad_enabled() or not isinstance(x, Tensor) or x.dim() != 4:
        return None
    if x.device.type != "cpu" or bool(x[0, :, 0].any()) or bool(x.any()):  # on a GPU a wait
        return None
    one: Tensor = func(x[:1], *args[1:], **kwargs)
    return one.expand(len(x), -1, -1, -1).clone(memory_format=torch.channels_last)
