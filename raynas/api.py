"""This module has the functions and objects by which a run is begun, read and continued in Python.

The command line calls the same functions. Opening and reading a run executes nothing of it; what
needs its experiment (:func:`resume`, :meth:`Run.export`, :meth:`ArchitectureResult.network`)
executes the ``experiment.py`` in its folder, as the command line does.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.core import UserError
from raynas.experiment import Experiment
from raynas.pipeline.architecture_result import ArchitectureResult, FinalistTest
from raynas.pipeline.setup import callbacks_for, run_path, runner_for
from raynas.store import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure
    from rich.console import Console

    from raynas.analysis.statistics import RunStatistics
    from raynas.analysis.summary import TrialSummary
    from raynas.callbacks import RunCallback
    from raynas.training import ExportedNetwork


def run(
    experiment: Experiment | Path | str,
    address: str | None = None,
    output: Path | str | None = None,
    *,
    local: bool = False,
    smoke: bool = False,
    overrides: Mapping[str, object] | None = None,
    callbacks: Sequence[str | RunCallback] = (),
    console: Console | None = None,
) -> Run:
    """Begin a new run of an experiment and carry it out.

    What is needed to resume the run, also in another process, is stored in its folder: the file of
    the experiment or, for an object, its source code where that can be written, else a pickle.

    Args:
        experiment: The experiment, or the path of a Python file with ``experiment()``.
        address: Address of a Ray cluster to join, as ``"auto"`` or ``"HOST:PORT"``; None starts Ray
            on this machine.
        output: The folder of the run, or a URI such as ``s3://bucket/run``. None takes the
            experiment's name, numbered, in ``$RAYNAS_STORAGE``, else in ``runs``.
        local: True carries out the trials in this process, without Ray.
        smoke: True applies the experiment's own ``smoke`` settings, and lets random images take
            the place of files that are missing.
        overrides: Path of a setting -> value, as ``{"budget.trials": 8}``.
        callbacks: Names or objects of callbacks that show results elsewhere.
        console: Where progress is printed; None takes standard output.

    Returns:
        The run.

    Raises:
        UserError: If ``output`` holds a run already, or the experiment cannot be carried out or
            stored.
        RunInterrupted: If Ctrl-C or a signal ended it; :func:`resume` goes on.

    Example:
        >>> import raynas as rn
        >>> run = rn.run(
        ...     rn.Experiment(
        ...         space=rn.NASBench201(channels=4, cells=1),
        ...         data=rn.Digits(),
        ...         evaluator=rn.Retrain(rn.Recipe(epochs=3)),
        ...         sampler=rn.TPE(),
        ...         budget=rn.Budget(trials=16),
        ...     )
        ... )  # doctest: +SKIP
        >>> run.best().metrics["val_accuracy"]  # doctest: +SKIP
    """
    from raynas.experiment import load, load_object, with_data
    from raynas.experiment.loading import refuse_nested
    from raynas.pipeline.launch import start

    refuse_nested()
    overrides = dict(overrides or {})
    if isinstance(experiment, Experiment):
        loaded = load_object(experiment, overrides, smoke=smoke)
    else:
        loaded = load(experiment, overrides, smoke=smoke)
    folder = start(
        with_data(loaded) if smoke else loaded,
        output,
        runner_for(address, local),
        overrides=overrides,
        smoke=smoke,
        console=console or _console(),
        callbacks=callbacks_for(callbacks, local),
    )
    return Run(folder)


def open(path: Path | str, *, trust: bool = False) -> Run:
    """Open a stored run; it may be going on in another process.

    Nothing of the run is executed.

    Args:
        path: The folder of the run, or its URI.
        trust: True allows methods of the run that execute its ``experiment.py`` to do so also if
            that file belongs to another user.

    Returns:
        The run.

    Raises:
        UserError: If there is no run, or it cannot be read.

    Example:
        >>> import raynas as rn
        >>> rn.open("runs/quickstart").best().metrics  # doctest: +SKIP
    """
    return Run(RunFolder.open(run_path(path)), trust=trust)


def resume(
    run: Run | Path | str,
    trials: int = 0,
    address: str | None = None,
    *,
    local: bool = False,
    overrides: Mapping[str, object] | None = None,
    callbacks: Sequence[str | RunCallback] = (),
    trust: bool = False,
    console: Console | None = None,
) -> Run:
    """Resume a run that was stopped or killed, or extend one that is finished.

    This executes the ``experiment.py`` in the folder of the run.

    Args:
        run: The run, its folder, or its URI.
        trials: How many trials are added to its budget.
        address: Address of a Ray cluster to join; None starts Ray on this machine.
        local: True carries out the trials in this process, without Ray.
        overrides: Path of a setting -> value, beside those that the run has.
        callbacks: Names or objects of callbacks that show results elsewhere.
        trust: True executes ``experiment.py`` also if it belongs to another user.
        console: Where progress is printed; None takes standard output.

    Returns:
        The run.

    Raises:
        UserError: If ``trials`` is negative, an override would make it another experiment, or the
            run cannot be read.
        RunInterrupted: If Ctrl-C or a signal ended it.

    Example:
        >>> import raynas as rn
        >>> rn.resume("runs/quickstart", trials=32)  # doctest: +SKIP
    """
    from raynas.experiment.loading import refuse_nested
    from raynas.pipeline import launch

    refuse_nested()
    if trials < 0:
        raise UserError(f"trials={trials}", expected=">= 0: how many are added to the budget")
    folder = launch.resume(
        run.path if isinstance(run, Run) else run_path(run),
        runner_for(address, local),
        more_trials=trials,
        overrides=overrides,
        console=console or _console(),
        callbacks=callbacks_for(callbacks, local),
        trust=trust,
    )
    return Run(folder, trust=trust)


def _console() -> Console:
    """Return a console that prints plain lines also in a notebook."""
    from raynas.pipeline.printing import data_console

    return data_console(force_jupyter=False)


@dataclass(frozen=True, repr=False)
class Run:
    """A run: what is stored of an experiment in a folder, or in remote storage.

    :func:`run`, :func:`open` and :func:`resume` return it. Each method reads the store anew, so
    that it may be used while the run goes on elsewhere.

    Attributes:
        folder: The folder of the run.
        trust: True also executes an ``experiment.py`` that belongs to another user.
    """

    folder: RunFolder
    trust: bool = False

    @property
    def path(self) -> Path:
        """The folder of the run; of a run in remote storage, of its working copy."""
        return self.folder.path

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.folder.info.name

    def measurements(self) -> pd.DataFrame | pa.Table:
        """Return the result table: one row per trial and step, with the columns of the store.

        Returns:
            A pandas DataFrame where pandas is installed, else an Arrow table.
        """
        return _frame(self._table())

    def trials(self) -> pd.DataFrame | pa.Table:
        """Return one row per trial, with the state and the values after its last step.

        The columns are those of the store: ``trial``, ``stage``, ``arm`` (the name of the sampler),
        ``state``, ``arch``, ``step``, the costs, the metrics, ``seconds`` (in all), ``message``.

        Returns:
            A pandas DataFrame where pandas is installed, else an Arrow table.
        """
        from raynas.analysis.trial_table import trial_table

        return _frame(trial_table(self._table()))

    def best(self) -> ArchitectureResult:
        """Return the best architecture of the experiment's own sampler.

        It is the best by the first objective, on validation data.

        Returns:
            The architecture and its results.

        Raises:
            UserError: If no trial has a result yet.
        """
        from raynas.analysis import summary

        loaded = self._statistics()
        found = summary.best(loaded)
        if found is None:
            raise UserError(
                f"run {self.folder.place} has no result yet",
                hint=f"see its report, or go on with: raynas resume {self.folder.place}",
            )
        return self._results(loaded, [found])[0]

    def front(self) -> list[ArchitectureResult]:
        """Return the Pareto front of the experiment's own sampler.

        It is taken over all objectives; with a single one, over that objective and the number of
        weights.

        Returns:
            The architectures that no other one dominates, the best of the first objective first.
            Empty before the first result.
        """
        from raynas.analysis import summary

        loaded = self._statistics()
        return self._results(loaded, summary.front_or_trade_off(loaded))

    def figure_names(self) -> list[str]:
        """Return the names of the figures for which the run has data now.

        Returns:
            The names, ``"pareto"`` among them where there is a front.
        """
        from raynas.reports.notebook import figure_names

        return figure_names(self._table(), self._description)

    def figure(self, name: str = "pareto") -> Figure:
        """Draw a figure of the report.

        Args:
            name: The name of the figure, as the files in the run's ``figures`` have it;
                ``"pareto"`` is the one that shows the front.

        Returns:
            A matplotlib figure, which notebooks display.

        Raises:
            UserError: If there is no such figure, or the run has no data for it.
        """
        from raynas.reports.notebook import figure

        return figure(self._table(), self._description, name)

    def report(self) -> Path:
        """Write ``report.html`` and the figures anew, from the store.

        Returns:
            The path of the report.
        """
        from raynas.pipeline.results import write_report_of

        return write_report_of(self.path).path

    def export(
        self, to: Path | str | None = None, formats: Sequence[str] = ("safetensors",)
    ) -> ExportedNetwork:
        """Export the best network; this executes the ``experiment.py`` of the run.

        Args:
            to: The folder to write to; None takes ``RUN/export``.
            formats: Names of file formats: ``safetensors``, ``onnx``, ``torch``.

        Returns:
            The files, and remarks about them.

        Raises:
            UserError: If the run has no trained network yet, or a format is unknown.
        """
        from raynas.pipeline.results import export_best

        to = None if to is None else Path(to)
        return export_best(self.path, to, tuple(formats), trust=self.trust)

    def resume(
        self,
        trials: int = 0,
        address: str | None = None,
        *,
        local: bool = False,
        overrides: Mapping[str, object] | None = None,
        callbacks: Sequence[str | RunCallback] = (),
        console: Console | None = None,
    ) -> Run:
        """Resume the run; see :func:`resume`.

        Args:
            trials: How many trials are added to its budget.
            address: Address of a Ray cluster to join; None starts Ray on this machine.
            local: True carries out the trials in this process, without Ray.
            overrides: Path of a setting -> value, beside those that the run has.
            callbacks: Names or objects of callbacks that show results elsewhere.
            console: Where progress is printed; None takes standard output.

        Returns:
            The run, as it is then.
        """
        return resume(
            self,
            trials,
            address,
            local=local,
            overrides=overrides,
            callbacks=callbacks,
            trust=self.trust,
            console=console,
        )

    def __repr__(self) -> str:
        return f"<Run {self.name!r} in {self.folder.place}>"

    def _repr_html_(self) -> str:
        """Return a summary and a figure for notebooks."""
        from raynas.reports.notebook import summary_html

        return summary_html(self._table(), self._description, self.name, self.folder.place)

    @property
    def _description(self) -> Mapping[str, Any]:
        found = self.folder.info.description
        return found if isinstance(found, Mapping) else {}

    def _table(self) -> pa.Table:
        """Return the result table as it is now."""
        from raynas.store import read

        return read(self.folder.refresh())

    def _statistics(self) -> RunStatistics:
        from raynas.analysis.statistics import load

        return load(self._table(), self._description)

    def _results(
        self, loaded: RunStatistics, found: Sequence[TrialSummary]
    ) -> list[ArchitectureResult]:
        """Return trials with their architectures and all their values."""
        from raynas.analysis.selection import test_metric
        from raynas.pipeline.history import read_architectures

        architectures = read_architectures(self.folder, [trial.arch for trial in found])
        metric = test_metric(loaded)
        return [
            ArchitectureResult(
                architecture,
                trial.trial,
                _values(loaded, trial.trial),
                FinalistTest(metric, trial.test_mean, trial.test_std, trial.test_n)
                if metric and trial.test_n
                else None,
                self.folder,
                self.trust,
            )
            for trial, architecture in zip(found, architectures, strict=True)
        ]


def _values(loaded: RunStatistics, number: int) -> dict[str, float]:
    """Return the last finite value of each metric of a trial, the objectives first."""
    (index,) = (loaded.trials.number == number).nonzero()[0]
    names = dict.fromkeys([*(o.metric for o in loaded.objectives), *loaded.trials.values])
    known = {name: float(loaded.trials.values[name][index]) for name in names}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def _frame(table: pa.Table) -> pd.DataFrame | pa.Table:
    """Return a table as a DataFrame where pandas is installed."""
    if importlib.util.find_spec("pandas") is None:
        return table
    frame: pd.DataFrame = table.to_pandas()
    return frame
