"""This module has the files to begin with: the quickstart, and new files of experiments."""

from __future__ import annotations

import inspect
import textwrap
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from raynas.apps import quickstart
from raynas.core import UserError, unknown_option
from raynas.data import DATASETS, Arrays
from raynas.experiment import check_name
from raynas.spaces import ElasticResNet, NASBench201, NASBench201Cells
from raynas.store.files import reason

#: spaces whose random architectures are small enough to be trained at once
_SPACES = {space.name: space for space in (NASBench201, NASBench201Cells, ElasticResNet)}
_OWN_IMAGES = '''

def images() -> tuple[np.ndarray, np.ndarray]:
    """Put your images here: (n, height, width, channels) uint8, and (n,) labels from 0.

    These are made up: the class is the place of a bright square.
    """
    labels = np.arange(400) % 4
    pixels = np.random.default_rng(0).integers(0, 128, (400, 16, 16, 1)).astype(np.uint8)
    for place in range(4):
        row, column = 8 * (place // 2), 8 * (place % 2)
        pixels[labels == place, row : row + 8, column : column + 8] += 100
    return pixels, labels
'''


def quickstart_file() -> Path:
    """Return the experiment of ``raynas demo``, which is part of the package.

    Returns:
        The path of a file with ``experiment()``.
    """
    return Path(quickstart.__file__)


def new_file(path: Path, space: str, data: str) -> None:
    """Write a commented file of an experiment that runs as it is.

    Args:
        path: The file, as ``my_search.py``. It must not exist.
        space: The name of a search space: ``nasbench201``, ``nasbench201_cells`` or
            ``elastic_resnet``.
        data: The name of a data set that needs no settings, or ``arrays`` for images in memory.

    Raises:
        UserError: If the file exists or cannot be written, its name cannot be that of an
            experiment, or the space or the data set is not known.
    """
    if path.suffix != ".py" or not path.stem:
        raise UserError(f"file {path.name!r}", expected="a name that ends in .py")
    check_name(path.stem)
    text = new_text(path, space, data)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(
            f"{path} exists, and is left as it is", hint="give another name, or move it away"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {reason(error)}", hint="give another place"
        ) from error


def new_text(path: Path, space: str, data: str) -> str:
    """Return the text that :func:`new_file` writes.

    Args:
        path: The file; its name stands in the text.
        space: The name of a search space.
        data: The name of a data set that needs no settings, or ``arrays``.

    Returns:
        The source of an experiment's file.

    Raises:
        UserError: If the space or the data set is not known.
    """
    sets = {**_without_needed_settings(DATASETS), Arrays.name: Arrays}
    if space not in _SPACES:
        raise unknown_option("space", space, _SPACES, "any other is an object in the file")
    if data not in sets:
        raise unknown_option(
            "data set", data, sorted(sets), f"{Arrays.name} is for images of your own"
        )
    own = sets[data] is Arrays
    source = files("raynas.apps").joinpath("experiment.template").read_text(encoding="utf-8")
    return Template(source).substitute(
        space=_SPACES[space].__name__,
        data="my images" if own else sets[data].__name__,
        data_call="rn.Arrays(*images())" if own else f"rn.{sets[data].__name__}()",
        file=path.name,
        stem=path.stem,
        imports="import numpy as np\n\n" if own else "",
        more=_OWN_IMAGES if own else "",
        space_settings=_settings(_SPACES[space]),
        data_settings=_settings(sets[data]),
    )


def _without_needed_settings(registry: dict[str, Any]) -> dict[str, type]:
    """Return the parts that can be made without arguments."""
    return {
        name: part
        for name, part in registry.items()
        if all(p.default is not p.empty for p in inspect.signature(part).parameters.values())
    }


def _settings(part: type) -> str:
    """Return the settings of a part with their defaults, as lines of a comment."""
    known = inspect.signature(part).parameters.values()
    given = [f"{p.name}={p.default!r}" for p in known if p.default is not p.empty]
    short = [text if len(text) < 60 else f"{text.partition('=')[0]}=..." for text in given]
    lines = textwrap.wrap(f"Settings: {', '.join(short)}", 86)
    return "".join(f"\n        # {line}" for line in lines) if short else ""
