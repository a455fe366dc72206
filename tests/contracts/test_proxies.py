"""The suite that every proxy passes. A new proxy: one line in ``PROXIES``."""

from __future__ import annotations

import pytest
import torch

from raynas.proxies import (
    AZNAS,
    EPENAS,
    NASWOT,
    SNIP,
    TENAS,
    Fisher,
    GradNorm,
    GraSP,
    JacobCov,
    L2Norm,
    MACs,
    MeCo,
    Params,
    Plain,
    Proxy,
    SynFlow,
    ZenScore,
    ZiCo,
    proxies,
    score,
)
from raynas.testing.networks import NETWORKS, make_batch, make_network
from raynas.testing.proxies import ProxyTestCase, ProxyTraits, score_alone, state_of

torch.set_num_threads(1)

PROXIES: dict[str, Proxy] = {
    "naswot": NASWOT(),
    "zen": ZenScore(images=4),
    "epe_nas": EPENAS(),
    "jacob_cov": JacobCov(),
    "synflow": SynFlow(),
    "snip": SNIP(),
    "grasp": GraSP(),
    "fisher": Fisher(),
    "grad_norm": GradNorm(),
    "l2_norm": L2Norm(),
    "plain": Plain(),
    "zico": ZiCo(),
    "tenas": TENAS(images=4, patches=20),
    "aznas": AZNAS(images=6),
    "meco": MeCo(),
    "params": Params(),
    "macs": MACs(),
}
COSTS = {"params", "macs", "l2_norm"}  # of any network, whatever it computes
OWN_WEIGHTS = {"zen", "aznas"}  # look neither at the network's weights nor at the batch's images


PATCHES = "does not take patches of 3 x 3 pixels"
UNPADDED = "turns (8, 8) pixels into (6, 6), which is not a whole stride"
INVALID = {  # (network, proxy) -> words of the reason; all other pairs have a score
    ("functional", "aznas"): "no chain of blocks",
    ("functional", "meco"): "no module gives a feature map",
    ("fixed size", "meco"): "one value per channel",
    **{(n, "tenas"): PATCHES for n in ("in place", "grouped", "fixed size", "input in place")},
    **{
        (n, "aznas"): UNPADDED
        for n in ("in place", "dropout", "features", "grouped", "fixed size", "input in place")
    },
}


NO_WEIGHTS = {"synflow", "snip", "grasp", "grad_norm", "l2_norm", "plain", "zico", "tenas"}


class TestProxies(ProxyTestCase):
    @pytest.fixture(params=PROXIES)
    def proxy(self, request: pytest.FixtureRequest) -> Proxy:
        return PROXIES[request.param]

    @pytest.fixture
    def traits(self, proxy: Proxy) -> ProxyTraits:
        name = proxy.name
        return ProxyTraits(
            invalid={network: why for (network, of), why in INVALID.items() if of == name},
            depends_on_output=name not in COSTS,
            depends_on_images=name not in {*COSTS, *OWN_WEIGHTS, "synflow"},
            depends_on_weights=name not in {"params", "macs", *OWN_WEIGHTS},
            runs_network=name not in COSTS - {"macs"},
            depends_on_frozen=name == "params",  # frozen weights are none that are trained
            no_weights_is_invalid=name in NO_WEIGHTS,
        )


def test_every_listed_proxy_is_tested_here() -> None:
    assert {name: type(p) for name, p in PROXIES.items()} == proxies()


@pytest.mark.parametrize("name", NETWORKS)
def test_together_they_score_as_each_alone(name: str) -> None:
    network, batch = make_network(name), make_batch()
    before = state_of(network, batch)
    together = score(network, batch, list(PROXIES.values()))
    assert state_of(network, batch) == before
    for proxy in PROXIES.values():
        one = score_alone(proxy, network, batch)
        assert {p: together.invalid.get(p) for p in proxy.parts if p in together.invalid} == (
            one.invalid
        )
        # NASWOT alone lays memory out another way, and a few signs near zero differ
        rel = 1e-3 if proxy.name == "naswot" else 1e-4
        for part, value in one.values.items():
            assert together.values[part] == pytest.approx(value, rel=rel), part
