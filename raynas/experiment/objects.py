"""This module stores an experiment that was built in a script, a notebook or a session.

A run must be resumable in another process, so its folder needs a file that makes the experiment.
The first of these that makes an equal one is stored as the run's ``experiment.py``:

1. the script itself, if it defines ``experiment()`` and begins the run below
   ``if __name__ == "__main__":``;
2. source code that is written here, if the experiment consists of importable classes and plain
   values;
3. a small file that loads ``experiment.pkl`` beside it: a pickle, with the source of the functions
   and classes that are stored in it, so that their fingerprints stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from raynas.experiment.experiment import Experiment
from raynas.experiment.loading import LoadedExperiment


def load_object(
    experiment: Experiment, overrides: Mapping[str, object] | None = None, *, smoke: bool = False
) -> LoadedExperiment:
    """Return an experiment with the source from which another process makes it again.

    Args:
        experiment: The experiment.
        overrides: Path of a setting -> value.
        smoke: True also applies the experiment's own ``smoke`` settings, before the overrides.

    Returns:
        The experiment as its stored form makes it, with that form.

    Raises:
        UserError: If it cannot be stored, or an override does not fit.
    """
    raise NotImplementedError
