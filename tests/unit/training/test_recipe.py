from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from raynas.core import UserError
from raynas.training import NASBENCH201, NASBENCH201_12, Recipe


def test_the_benchmarks_recipes() -> None:
    for recipe, epochs in ((NASBENCH201, 200), (NASBENCH201_12, 12)):
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == (epochs, 256, 0.1)
        assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, True, 5e-4)
        assert (recipe.flip, recipe.crop_pad, recipe.warmup_epochs) == (True, 4, 0)
        assert recipe.decay_norms
        assert recipe.label_smoothing == recipe.cutout == 0


def test_cosine_falls_from_lr_to_zero_step_by_step() -> None:
    recipe = Recipe(epochs=4, lr=0.2)
    rates = [recipe.lr_at(step, 5) for step in range(21)]
    assert rates[0] == 0.2
    assert rates[10] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(0)
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_warmup_rises_to_lr_and_the_cosine_takes_the_rest() -> None:
    recipe = Recipe(epochs=4, lr=0.2, warmup_epochs=1)
    rates = [recipe.lr_at(step, 4) for step in range(17)]
    assert rates[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert rates[4] == 0.2
    assert rates[10] == pytest.approx(0.1)
    assert rates[16] == pytest.approx(0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", 1),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("momentum", 1.0),
        ("momentum", 0.0),
        ("weight_decay", -1.0),
        ("label_smoothing", 1.0),
        ("crop_pad", -1),
        ("cutout", -2),
        ("grad_clip", 0.0),
        ("warmup_epochs", 12),
        ("amp", "fp16"),
    ],
)
def test_bad_settings_are_refused_with_name_and_value(field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        replace(NASBENCH201_12, **{field: value})
    message = str(caught.value)
    assert "expected:" in message
    assert "\n" not in message
    assert str(value) in message or field == "momentum"  # momentum 0 is refused by nesterov


def test_importing_recipes_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, raynas.training, raynas.evaluators; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
