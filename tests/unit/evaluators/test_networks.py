"""Networks for evaluators: seeded weights, and spaces that build the wrong thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raynas.core import Architecture, Choice, UserError
from raynas.data.base import DataView, Images
from raynas.evaluators.networks import build_network, check_network
from raynas.spaces.base import InputShape, SearchSpace

IMAGES = Images(np.zeros((4, 4, 4, 1), np.uint8), np.arange(4) % 3)
VIEW = DataView(IMAGES, IMAGES, "val", 3, (0.0,), (1.0,))


@dataclass(frozen=True)
class Odd(SearchSpace):
    """Builds what ``kind`` says."""

    name: ClassVar[str] = "odd"
    kind: str = "good"

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (Choice("bias", (True, False)),)

    def build(
        self, arch: Architecture, input_shape: InputShape = (3, 32, 32), num_classes: int = 10
    ) -> Any:
        size = int(np.prod(input_shape))
        good = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(size, num_classes))
        return {
            "good": good,
            "no module": len,
            "two outputs": nn.LSTM(size, 1),
            "fails": nn.Linear(size + 1, 3),
        }[self.kind]


ARCH = Odd().architecture({"bias": True})


def weights(seed: int) -> torch.Tensor:
    network = build_network(Odd(), ARCH, (1, 4, 4), 3, seed)
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_weights_follow_the_seed_alone_and_the_random_state_stays() -> None:
    torch.manual_seed(1)
    first, state = weights(3), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_good_network_passes() -> None:
    check_network(Odd(), ARCH, VIEW)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no module", "builds 'builtin_function_or_method'.*expected: a torch.nn.Module"),
        ("fails", r"fails on input \(2, 1, 4, 4\): RuntimeError"),
        ("two outputs", "fails on input|gives tuple for two images"),
    ],
)
def test_a_wrong_one_is_one_line_for_the_user(kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_network(Odd(kind), ARCH, VIEW)
    assert "\n" not in str(error.value)
