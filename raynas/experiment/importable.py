"""This module tells which modules another process can import."""

from __future__ import annotations

import sys
from functools import cache


def importable(module: str) -> bool:
    """Return True if a new process with the same search path can import a module by its name.

    Args:
        module: The dotted name of a module. It may be loaded already, by other means than an
            import, as the files of experiments are.

    Returns:
        False for ``__main__``, and for modules that no finder finds.

    Example:
        >>> importable("raynas.samplers"), importable("__main__")
        (True, False)
    """
    top = module.partition(".")[0]
    if top == "__main__" or not top:
        return False
    return top in sys.stdlib_module_names or _found(top, tuple(sys.path))


@cache
def _found(top: str, _path: tuple[str, ...]) -> bool:
    """Ask the finders themselves: importlib looks among the loaded modules first."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(top, None) is not None:
            return True
    return False
