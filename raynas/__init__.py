"""raynas: neural architecture search as one distributed pipeline."""

from raynas.moved import install as _install

__version__ = "0.1.0"

_install()
