"""Checks that a supernet can be trained, cut and sorted, made before its training starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raynas.core import Architecture, RaynasError, UserError
from raynas.core.errors import first_line
from raynas.layers import Elastic
from raynas.spaces.base import SearchSpace
from raynas.spaces.supernet import Supernet
from raynas.supernet.extraction import TOLERANCE
from raynas.supernet.rules import Phase
from raynas.training.diagnosis import why_it_differs

_MOST = 12
"""The most architectures to try, beside those of the first and the last options."""

_ELASTIC = {"Conv2d": "ElasticConv2d", "BatchNorm2d": "ElasticBatchNorm2d",
            "Linear": "ElasticLinear", "Flatten": "Flatten"}  # fmt: skip
_CONTRACT = "forward(x, arch), plain(arch, width_in) and width_out(arch, width_in)"


def check_supernet(supernet: Supernet, images: Tensor, phases: Sequence[Phase] = ()) -> None:
    """Run, train and cut architectures that together have every option of every choice.

    Args:
        supernet: With initial weights; it is changed.
        images: (n, *input_shape) of the data, two or more.
        phases: The phases of its training.

    Raises:
        UserError: When a pass or a cut fails; it names the layer and what to use instead.
        UserError: When the extracted network computes other outputs than the supernet.
        UserError: When a phase sorts channels and there are none to sort, or sorting changes the
            logits of the largest network.

    Example:
        >>> import torch
        >>> from raynas.spaces.nasbench201.space import NASBench201
        >>> _ = torch.manual_seed(0)
        >>> space = NASBench201(channels=4, cells=1)
        >>> check_supernet(space.supernet((3, 8, 8), 10), torch.randn(2, 3, 8, 8))
    """
    archs = covering(supernet.space)
    with torch.random.fork_rng(devices=[]):
        for arch in archs:
            _check_one(supernet, arch, images)
        supernet.train()
        with _named_errors(supernet, archs[-1], "a training pass"):
            supernet(images, archs[-1]).sum().backward()
        sorts = [phase for phase in phases if phase.sort]
        if sorts:
            largest = supernet.space.extremes()[1]
            _check_sorting(supernet, sorts[0], largest, images)


def covering(space: SearchSpace) -> list[Architecture]:
    """Return architectures that together have every option of every choice.

    At most twelve are added to the first and the last options of all choices. The space is not
    asked for its smallest and its largest architecture, since it may have to build them.

    Args:
        space: The search space.

    Returns:
        Different architectures; the first two have the first and the last options of all choices.
    """
    most = max((len(choice) for choice in space.choices), default=0)
    found = [space.architecture({c.name: c.options[end] for c in space.choices}) for end in (0, -1)]
    for k in range(min(most, _MOST)):
        # each choice starts one option later than the choice before it
        drawn = {c.name: c.options[(k + n) % len(c)] for n, c in enumerate(space.choices)}
        found.append(space.architecture(drawn))
    return list(dict.fromkeys(found))


def _check_one(supernet: Supernet, arch: Architecture, images: Tensor) -> None:
    supernet.eval()
    with torch.no_grad(), _named_errors(supernet, arch, "a pass"):
        wanted = supernet(images, arch)
    if not isinstance(wanted, Tensor) or wanted.shape != (len(images), supernet.num_classes):
        given = tuple(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
        raise UserError(
            f"the supernet of space {supernet.space.name!r} gives {given} for {len(images)} images",
            expected=f"logits of shape ({len(images)}, {supernet.num_classes})",
            hint="see num_classes in the space's supernet()",
        )
    with _named_errors(supernet, arch, "taking out the network"):
        network = supernet.extract(arch).eval()
    with torch.no_grad(), _named_errors(network, arch, "a pass of the network taken out", supernet):
        found = network(images)
    if found.shape == wanted.shape:
        difference = float((wanted - found).abs().max())
        if difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
            return
        if reason := why_it_differs(network, images):
            raise UserError(f"the supernet for {arch}: {reason}")
        shown = f"logits differ by {difference:g}"
    else:
        shown = f"{tuple(found.shape)} in place of {tuple(wanted.shape)}"
    raise UserError(
        f"the network taken out of the supernet for {arch} computes something else than the "
        f"supernet: {shown}",
        hint=f"see plain() and width_out() of {_own_layers(supernet)}",
    )


def _check_sorting(supernet: Supernet, phase: Phase, largest: Architecture, images: Tensor) -> None:
    changed = copy.deepcopy(supernet).eval()
    with torch.no_grad():
        for tensor in changed.state_dict().values():
            if tensor.is_floating_point():  # statistics of a new norm are all alike
                tensor.add_(0.1 * torch.rand(tensor.shape, device=tensor.device))
        before = {name: value.clone() for name, value in changed.state_dict().items()}
        wanted = changed(images, largest)
        changed.sort_channels()
        found = changed(images, largest)
    if all(torch.equal(value, before[name]) for name, value in changed.state_dict().items()):
        raise UserError(
            f"phase {phase.opens!r} from epoch {phase.epoch} has sort=True, but the supernet of "
            f"space {supernet.space.name!r} has no channels that can be sorted",
            expected="elastic widths between ElasticConv2d, ElasticBatchNorm2d and ElasticLinear "
            "in Sequential, Repeat, Residual and OneOf, or layers with their own sort_channels()",
            hint="leave sort=True out",
        )
    difference = float((found - wanted).abs().max())
    if not difference <= 1e-3 * max(1.0, float(wanted.abs().max())):
        raise UserError(
            f"sort_channels() changes what the largest network of space {supernet.space.name!r} "
            f"computes: logits differ by {difference:g}",
            hint=f"see sort_channels() of {_own_layers(supernet)}",
        )


def _own_layers(supernet: Supernet) -> str:
    """Return the names of the elastic layers that are not of this package."""
    kinds = {type(m).__name__: m for m in supernet.modules() if isinstance(m, Elastic)}
    own = [n for n, m in kinds.items() if not type(m).__module__.startswith("raynas.layers")]
    return ", ".join(own) or "its layers"


# -- which layer fails -------------------------------------------------------------------------


@contextmanager
def _named_errors(
    network: nn.Module, arch: Architecture, what: str, supernet: Supernet | None = None
) -> Iterator[None]:
    """Turn any error into one line that names the innermost layer at work.

    ``supernet`` is the supernet whose layers have made ``network``, if it is not the network
    itself.
    """
    at_work: list[tuple[str, nn.Module, Any]] = []

    def enter(name: str) -> Any:
        return lambda module, given: at_work.append((name, module, given[0] if given else None))

    def leave(_module: nn.Module, _given: Any, _out: Any) -> None:
        at_work.pop()

    handles = [m.register_forward_pre_hook(enter(n)) for n, m in network.named_modules()]
    handles += [m.register_forward_hook(leave) for m in network.modules()]
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # any kind: code of any network
        name, layer, given = at_work[-1] if at_work else _raised_in(network, error)
        shape = f", which gets {tuple(given.shape)}" if isinstance(given, Tensor) else ""
        where = f"layer {name!r} ({type(layer).__name__}{shape})" if name else type(layer).__name__
        hint = _hint_for(layer, error) if supernet is None else (
            f"see plain() and width_out() of {_own_layers(supernet)}"
        )  # fmt: skip
        raise UserError(
            f"the supernet fails for {arch} in {what}: {where}: {_said(error)}", hint=hint
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, RaynasError) else first_line(error)


def _raised_in(network: nn.Module, error: Exception) -> tuple[str, nn.Module, None]:
    """Return the innermost module whose code was running, by the frames of the traceback."""
    names = {id(module): name for name, module in network.named_modules()}
    found: nn.Module = network
    trace = error.__traceback__
    while trace is not None:
        running = trace.tb_frame.f_locals.get("self")
        if id(running) in names and isinstance(running, nn.Module):
            found = running
        trace = trace.tb_next
    return names[id(found)], found, None


def _hint_for(layer: nn.Module, error: Exception) -> str:
    kind = type(layer).__name__
    if isinstance(error, UserError):
        return ""
    if isinstance(error, TypeError) and "'arch'" in str(error):
        return (
            "put elastic layers into raynas.layers.Sequential, Repeat, OneOf or Residual, or into "
            f"a raynas.layers.Elastic of your own with {_CONTRACT}"
        )
    if type(layer).__module__.startswith("torch."):
        if kind in _ELASTIC:
            return f"its size is fixed; use raynas.layers.{_ELASTIC[kind]}"
        return f"its size is fixed; make it a raynas.layers.Elastic with {_CONTRACT}"
    if type(layer).__module__.startswith("raynas.layers"):
        return "give it the most channels that come in, as a choice, a number or a Size"
    return f"see the layer's {_CONTRACT}"
