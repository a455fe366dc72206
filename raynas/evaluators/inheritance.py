"""A supernet with weights from a file, or from what was sent to a worker, for evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from raynas.data.base import View
from raynas.evaluators.train_supernet import new_supernet
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from raynas.spaces.supernet import Supernet

Assets = Mapping[str, NDArray[Any]]


def weights_as_assets(weights: Path | None) -> Assets:
    """Return the numbers of the weights and which images they were trained on, to be sent to
    workers that do not see the file.

    Args:
        weights: The file, or its folder; None gives nothing.

    Raises:
        UserError: Naming the file, when it cannot be used.
    """
    if weights is None:
        return {}
    from raynas.supernet.trained_on import ARRAY
    from raynas.supernet.weights import read_arrays, read_trained_on

    trained_on = read_trained_on(weights)
    more = {} if trained_on is None else {ARRAY: trained_on.hashes}
    return {**read_arrays(weights), **more}


def supernet_with_weights(
    space: SearchSpace, view: View, weights: Path | None, assets: Assets | None
) -> Supernet:
    """Make the supernet and fill it.

    Args:
        space: Of the supernet.
        view: The images that it is used with; none that is held out may have been trained on.
        weights: The file, or its folder. It need not be there where there are ``assets``.
        assets: What :func:`weights_as_assets` gave.

    Raises:
        UserError: When the weights are of another supernet or of other images, or damaged.
    """
    from raynas.supernet.trained_on import ARRAY, TrainedOn
    from raynas.supernet.weights import fill, load_weights, read_trained_on

    supernet = new_supernet(space, view, seed=0)
    if assets is not None:
        fill(supernet, {name: array for name, array in assets.items() if name != ARRAY})
        trained_on = TrainedOn(assets[ARRAY]) if ARRAY in assets else None
    else:
        assert weights is not None
        load_weights(weights, supernet)
        trained_on = read_trained_on(weights)
    if trained_on is not None:
        trained_on.expect(view, weights or "memory")
    return supernet


def remarks_on(weights: Path | None) -> tuple[str, ...]:
    """Say that nobody knows which images the weights were trained on, where it is so.

    Raises: UserError, naming the file, when it cannot be read.
    """
    if weights is None:
        return ()
    from raynas.supernet.weights import read_trained_on

    if read_trained_on(weights) is not None:
        return ()
    return (
        f"the weights in {weights} do not say which images they were trained on (they are of an "
        "older raynas): whether validation or test images are among these cannot be checked",
    )
