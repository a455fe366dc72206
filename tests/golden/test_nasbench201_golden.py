"""The network against the reference implementation: names, shapes, outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raynas.spaces import NASBench201

torch.set_num_threads(1)

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SPACE = NASBench201()


def load(name):
    if not (DATA / name).exists():
        pytest.skip(f"no ../shared/data/{name} beside the checkout")
    return json.loads((DATA / name).read_text())


def test_names_and_shapes_of_the_state_are_the_references():
    for text, reference in load("golden_state_keys.json").items():
        network = SPACE.build(SPACE.architecture(text))
        state = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        assert state == reference
        weights = {name: torch.zeros(shape) for name, shape in reference.items()}
        network.load_state_dict(weights, strict=True)


def golden_weights(network, seed):
    """The weights that the golden values were made with, see the data's README."""
    rng = np.random.default_rng(seed)
    state = network.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:
            shape = tuple(tensor.shape)
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            zero = name.endswith(("bias", "running_mean"))
            values = np.full(tuple(tensor.shape), 0.0 if zero else 1.0)
        state[name] = torch.from_numpy(values.astype(np.float32))
    network.load_state_dict(state, strict=True)


@pytest.mark.parametrize("number", range(8))
def test_logits_in_train_mode_are_the_references(number):
    row = load("golden_proxies.json")[number]
    arch = SPACE.architecture(row["arch"])
    network = SPACE.build(arch).train()
    golden_weights(network, row["weights_seed"])
    images = np.random.default_rng(row["batch_seed"]).standard_normal((64, 3, 32, 32))
    with torch.no_grad():
        logits = network(torch.from_numpy(images.astype(np.float32)))
    expected = torch.tensor(row["logits_train_mode_row0"])
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-4)
    assert SPACE.costs(arch).params == row["params"]
    assert len(network.state_dict()) == row["n_state_tensors"]
