"""The searches of :mod:`raynas.testing.searches` under the name that the tests use."""

from raynas.testing.searches import *  # noqa: F403
