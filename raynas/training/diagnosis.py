"""Messages of one line that say why a network cannot be run, repeated or exported."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from raynas.core.errors import first_line

_DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout",
             "feature_alpha_dropout", "dropout_", "alpha_dropout_"}  # fmt: skip


#: more than one, since dropped values may be zero anyway
_PASSES = 4


def why_it_fails(network: nn.Module, images: Tensor) -> str:
    """Run ``network`` once and describe the error.

    Args:
        network: In eval mode.
        images: (n, channels, height, width).

    Returns:
        The error and where it was raised, or the type of an output that is not a tensor of logits;
        an empty text when the pass works.
    """
    try:
        with torch.no_grad():
            out = network(images)
    except MemoryError:
        raise
    except Exception as error:  # any kind: code of any network
        return f"the network fails on {len(images)} images, {_with_place(error)}"
    if not isinstance(out, Tensor):
        return f"the network gives {type(out).__name__}, not a tensor of logits"
    return ""


def why_it_differs(network: nn.Module, images: Tensor) -> str:
    """Run ``network``, which works, several times and describe why passes differ.

    Args:
        network: In eval mode.
        images: (n, channels, height, width).

    Returns:
        The difference and its cause; an empty text when all passes give the same logits.
    """
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        first, logits = _outputs(network, images)
        for seed in range(_PASSES):
            torch.manual_seed(seed)
            other, again = _outputs(network, images)
            if not _near(logits, again):
                break
        else:
            return ""
    state = network.state_dict()
    changed = [n for n, value in before.items() if n in state and not _same(value, state[n])]
    found = _draws(network, images)
    if found:
        cause = found
    elif changed:
        cause = f"a forward pass changes {changed[0]!r}; change nothing where training is off"
    else:
        pairs = zip(first, other, strict=False)
        where = next((name for (name, a), (_, b) in pairs if not _same(a, b)), "")
        cause = f"the first module whose output differs is {_shown(network, where)}"
    difference = float((logits - again).abs().max())
    return (
        f"the network is not deterministic in eval mode (logits of two passes differ by "
        f"{difference:g}): {cause}"
    )


def why_not_exported(network: nn.Module, images: Tensor | None, error: BaseException) -> str:
    """Describe the part of ``network`` that an exporter did not accept.

    Args:
        network: In eval mode; a forward pass of it works.
        images: (n, channels, height, width); None when there are none to run it on.
        error: The exception that the exporter raised.

    Returns:
        The reason, with the user's line of code where it is known.
    """
    cause: BaseException | None = error
    while cause is not None and images is not None:
        if "specialized it to be a constant" in str(cause):
            return _fixed_batch(network, images)
        cause = cause.__cause__ or cause.__context__
    return _with_place(error)


def _fixed_batch(network: nn.Module, images: Tensor) -> str:
    watch = _Watch(network, lambda func: getattr(func, "__name__", "") == "__len__")
    with torch.no_grad(), watch:
        network(images)
    where = f", by len() in {watch.found}" if watch.found else ", as len(x) or int(x.shape[0]) do"
    return f"its forward() makes the number of images a constant{where}; write x.shape[0] instead"


def _draws(network: nn.Module, images: Tensor) -> str:
    """Return the first function that draws random numbers with advice, or an empty text."""
    watch = _Watch(network, None)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), watch:
        network(images)
    if not watch.found:
        return ""
    hint = "draw none where training is off"
    if watch.name in _DROPOUTS:
        hint = "give it training=self.training, or use nn.Dropout"
    return f"{watch.name}() in {watch.found} draws random numbers; {hint}"


class _Watch(TorchFunctionMode):
    """A mode that finds the first torch function for which ``wanted`` holds.

    With ``wanted`` None it finds the first one that draws random numbers.

    Attributes:
        name: The name of the function.
        found: The module and the line that called it.
    """

    def __init__(self, network: nn.Module, wanted: Callable[[Any], bool] | None) -> None:
        super().__init__()
        self.name = self.found = ""
        self._network, self._wanted = network, wanted
        self._inside: list[str] = []
        self._handles: list[Any] = []

    def __enter__(self) -> _Watch:
        for name, module in self._network.named_modules():
            self._handles += [
                module.register_forward_pre_hook(_push(self._inside, name)),
                module.register_forward_hook(_pop(self._inside)),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.found:
            return func(*args, **(kwargs or {}))
        before = torch.get_rng_state()
        out = func(*args, **(kwargs or {}))
        draws = self._wanted is None and not torch.equal(before, torch.get_rng_state())
        if draws or (self._wanted is not None and self._wanted(func)):
            self.name = str(getattr(func, "__name__", func))
            self.found = _shown(self._network, self._inside[-1] if self._inside else "")
            line = _users_line(sys._getframe(1))
            self.found += f" ({line})" if line else ""
        return out


def _push(stack: list[str], name: str) -> Callable[..., None]:
    return lambda *_: stack.append(name)


def _pop(stack: list[str]) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        stack.pop()

    return leave


def _outputs(network: nn.Module, images: Tensor) -> tuple[list[tuple[str, Tensor]], Tensor]:
    """Return the output of each module, in the order in which they end, and the logits."""
    found: list[tuple[str, Tensor]] = []
    with _kept(network, found):
        logits: Tensor = network(images)
    return found, logits


@contextmanager
def _kept(network: nn.Module, found: list[tuple[str, Tensor]]) -> Iterator[None]:
    def keep(name: str) -> Callable[..., None]:
        def add(_module: nn.Module, _inputs: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                found.append((name, out.clone()))

        return add

    handles = [m.register_forward_hook(keep(n)) for n, m in network.named_modules() if n]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _near(one: Tensor, other: Tensor) -> bool:
    """Return whether two passes differ only as sums in another order do."""
    if one.shape != other.shape:
        return False
    return torch.allclose(one.float(), other.float(), rtol=1e-5, atol=1e-6, equal_nan=True)


def _shown(network: nn.Module, name: str) -> str:
    kind = type(network.get_submodule(name)).__name__
    return f"module {name!r} ({kind})" if name else kind


def _with_place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if _is_users(f.filename)][-1:]
    places = [f" ({Path(f.filename).name}, line {f.lineno}: {f.line})" for f in own]
    return first_line(error) + "".join(places)


def _users_line(frame: FrameType | None) -> str:
    """Return the innermost line outside of the files of Python and of other packages."""
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


_NOT_USERS = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<")


def _is_users(file: str) -> bool:
    """Return whether code is a user's: not of Python, an installed package or this package."""
    return "site-packages" not in Path(file).parts and not file.startswith(_NOT_USERS)
