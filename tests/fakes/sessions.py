"""One Ray for all tests that need no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raynas.runners.ray.tune import TuneRunner


class SharedRay:
    """A Ray of this process on its CPU cores, begun when a test first asks for it."""

    def __init__(self) -> None:
        self._runner: TuneRunner | None = None

    def open(self) -> TuneRunner:
        """Whose Ray other runners of this process join."""
        import toys
        from integration import toy_runs

        from raynas.runners.ray.tune import TuneRunner

        if self._runner is None:
            self._runner = TuneRunner(modules=(toys, toy_runs), address=None)
            self._runner.open()
        return self._runner

    def close(self) -> None:
        """For tests that start another; the next ``open`` begins anew."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
