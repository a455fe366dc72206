"""This module makes a supernet with weights from a file, or from arrays sent to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from raynas.data.base import DataView
from raynas.evaluators.train_supernet import new_supernet
from raynas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from raynas.spaces.supernet import Supernet

Assets = Mapping[str, NDArray[Any]]


def weights_as_assets(weights: Path | None) -> Assets:
    """Return the weights and the hashes of their training images, to be sent to workers.

    Workers need not see the file then.

    Args:
        weights: The file, or its folder; None gives no arrays.

    Returns:
        Arrays by name.

    Raises:
        UserError: The file cannot be used; the message names it.
    """
    if weights is None:
        return {}
    from raynas.supernet.trained_on import ARRAY
    from raynas.supernet.weights import read_arrays, read_trained_on

    trained_on = read_trained_on(weights)
    more = {} if trained_on is None else {ARRAY: trained_on.hashes}
    return {**read_arrays(weights), **more}


def supernet_with_weights(
    space: SearchSpace, view: DataView, weights: Path | None, assets: Assets | None
) -> Supernet:
    """Make the supernet and fill it with weights.

    Args:
        space: The space of the supernet.
        view: The images that it is used with; none that is held out may have been trained on.
        weights: The file, or its folder. It need not exist where there are ``assets``.
        assets: The result of :func:`weights_as_assets`, or None to read the file.

    Returns:
        The supernet.

    Raises:
        UserError: The weights are of another supernet or of other images, or damaged.
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
    """Say that it is unknown which images the weights were trained on, where it is.

    Args:
        weights: The file, or its folder; None gives no remark.

    Returns:
        At most one sentence.

    Raises:
        UserError: The file cannot be read; the message names it.
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
