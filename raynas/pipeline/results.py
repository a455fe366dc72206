"""This module makes the results of a run from the store: best network, exports, report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from raynas.core import RaynasError, Trial, TrialState, UserError
from raynas.core.describe import fresh
from raynas.core.errors import first_line
from raynas.core.trial import is_time
from raynas.evaluators.abilities import trained_network, weights_version_of
from raynas.experiment import Experiment
from raynas.pipeline.history import (
    SPACE_FILE,
    equipped,
    final_evaluator,
    history,
    keep_space,
    kept,
    past_trials,
    reload,
)
from raynas.pipeline.printing import show_remarks
from raynas.spaces.stored import whole_texts
from raynas.store import RunFolder, read
from raynas.store.schema import FINAL, SEARCH

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console
    from torch import nn

    from raynas.data.base import DataView
    from raynas.training import ExportedNetwork


def best_trial(folder: RunFolder, experiment: Experiment) -> Trial | None:
    """Return the best COMPLETE trial of the experiment's own sampler.

    It is the best by the first objective, on validation data.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.

    Returns:
        The trial; None if none is complete.
    """
    past, _ = history(folder, experiment, SEARCH, experiment.sampler.name)
    objective = experiment.objectives[0]
    complete = [t for t in past if t.state is TrialState.COMPLETE]
    return max(complete, key=lambda t: objective.sign * t.values()[objective.metric], default=None)


@dataclass(frozen=True)
class BestNetwork:
    """The best network of a run and where it comes from.

    Attributes:
        network: The trained network.
        found: The trial of the search.
        trained: The trial that trained the network, a finalist's if there is one.
        view: The data that it was trained and measured on.
        weights: The version of the supernet that it was taken from; None if it was not.
    """

    network: nn.Module
    found: Trial
    trained: Trial
    view: DataView
    weights: str | None = None

    def architecture(self, folder: RunFolder) -> dict[str, Any]:
        """Return what a reader of the weights needs to know.

        Args:
            folder: The folder of the run.

        Returns:
            JSON data: the architecture, the input, the normalisation, costs and values.
        """
        arch, view = self.found.arch, self.view
        return {
            "space": folder.info.description["space"],
            "arch": arch.text,
            "arch_id": arch.id,
            "choices": dict(arch),
            "input_shape": list(view.input_shape),
            "num_classes": view.num_classes,
            "mean": list(view.mean),
            "std": list(view.std),
            "pixels": "0..255, minus mean, divided by std, channels first",
            "costs": dict(self.found.costs),
            "found": {"trial": self.found.number, **self.found.values()},
            "trained": {
                "trial": self.trained.number,
                "seed": self.trained.seed,
                **self.trained.values(),
            },
            **({"weights": self.weights} if self.weights else {}),
            "run": folder.info.run,
            "fingerprint": folder.info.fingerprint,
        }


def best_network(folder: RunFolder, experiment: Experiment) -> BestNetwork | None:
    """Load the network of the best trial, as :func:`network_of` does.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.

    Returns:
        The network; None if no trained network is kept.
    """
    found = best_trial(folder, experiment)
    return None if found is None else network_of(folder, experiment, found)


def network_of(folder: RunFolder, experiment: Experiment, found: Trial) -> BestNetwork | None:
    """Load the network of a trial of the search.

    The finalist's training on train + valid is preferred to the search's own; of its seeds the
    first is taken, so that test data choose nothing.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.
        found: The trial.

    Returns:
        The network; None if no trained network of this architecture is kept.
    """
    experiment = equipped(folder, experiment)
    finals, _ = history(folder, experiment, FINAL, experiment.sampler.name)
    trained = [t for t in finals if t.arch == found.arch and t.state is TrialState.COMPLETE]
    for trial in [*sorted(trained, key=lambda t: t.number), found]:
        if trial is found:
            evaluator = fresh(experiment.evaluator)
            view = experiment.data.search_view(experiment.seed)
        else:
            evaluator = final_evaluator(experiment)
            view = experiment.data.final_view(experiment.seed)
        evaluator.setup(experiment.space, view)
        network = trained_network(evaluator, found.arch, folder.workdir(trial.number))
        if network is not None:
            return BestNetwork(network, found, trial, view, weights_version_of(evaluator))
    return None


def save_best(folder: RunFolder, experiment: Experiment) -> ExportedNetwork | None:
    """Write ``best/network.safetensors`` and ``best/architecture.json``.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.

    Returns:
        What was written; None if the run keeps no trained network.

    Raises:
        RaynasError: If the network cannot be built or saved; it names what in it does that.
        OSError: If the files cannot be written.
    """
    try:
        best = best_network(folder, experiment)
        if best is None:
            return None
        return export(best, folder, folder.best, ("safetensors",))
    except (RaynasError, OSError, MemoryError):
        raise
    except Exception as error:  # of any kind: from a user's build(), or the network
        raise RaynasError(first_line(error)) from error


def finish(folder: RunFolder, experiment: Experiment, console: Console) -> None:
    """Write the report and save the best network, from the store alone.

    The report is written whatever becomes of the network.

    Args:
        folder: The folder of the run.
        experiment: Its experiment.
        console: Where the paths are printed.

    Raises:
        RaynasError: If the best network could not be saved; all else is done then.
    """
    from raynas.reports import shown_architectures, write_report

    kept_space = keep_space(folder, experiment, shown_architectures(folder))
    write_report(folder, kept_space or experiment.space)
    failed = ""
    try:
        saved = save_best(folder, experiment)
    except RaynasError as error:
        saved, failed = None, str(error)
    if saved is not None:
        console.print(Text(f"best network: {saved.paths['safetensors']}"), soft_wrap=True)
        show_remarks([f"best network: {remark}" for remark in saved.remarks], console)
    folder.publish(folder.report, folder.figures, folder.best, folder.path / SPACE_FILE)
    console.print(Text(f"report: {folder.report}"), soft_wrap=True)
    if folder.remote is not None:
        console.print(Text(f"all of it: {folder.place}"), soft_wrap=True)
    if failed:
        raise RaynasError(f"the best network was not saved, but all other results were: {failed}")


def export(
    best: BestNetwork, folder: RunFolder, to: Path, formats: tuple[str, ...]
) -> ExportedNetwork:
    """Write a network, and what a reader must know of it.

    Args:
        best: The network.
        folder: The folder of the run.
        to: The folder to write to.
        formats: The names of the file formats.

    Returns:
        The files, and remarks about them.
    """
    from raynas.training import export_network
    from raynas.training.augment import some_images

    return export_network(
        best.network,
        best.view.input_shape,
        to,
        architecture=best.architecture(folder),
        formats=formats,
        images=some_images(best.view),
    )


def export_best(
    path: Path, to: Path | None, formats: tuple[str, ...], *, trust: bool = False
) -> ExportedNetwork:
    """Export the best network of a run; this executes the ``experiment.py`` of the run.

    Args:
        path: The folder of the run.
        to: The folder to write to; None takes ``RUN/export``.
        formats: The names of the file formats.
        trust: True also executes a file that belongs to another user.

    Returns:
        The files, and remarks about them.

    Raises:
        UserError: If the run has no trained network yet, or a format is unknown.
    """
    folder = RunFolder.open(path)
    best = best_network(folder, reload(folder, trust=trust).experiment)
    if best is None:
        raise UserError(
            f"run {folder.place} has no trained network to export",
            hint="complete a trial, for example with `raynas resume`: only trained networks "
            "are kept",
        )
    return export(best, folder, (to or folder.path / "export").absolute(), formats)


@dataclass(frozen=True)
class WrittenFile:
    """A file that was made of a run.

    Attributes:
        path: The file.
        remark: What a user should know of it; may be empty.
    """

    path: Path
    remark: str = ""


def export_studies(path: Path, to: Path) -> WrittenFile:
    """Write the search of a run as an SQLite file for Optuna, with one study for each sampler.

    Nothing of the run is executed. If the run keeps no choices, an architecture is one parameter.

    Args:
        path: The folder of the run.
        to: The file to write.

    Returns:
        The file, and what is missing in it.

    Raises:
        UserError: If the run has no results, or ``to`` exists already.
    """
    import pyarrow.compute as pc

    from raynas.analysis.descriptions import bounds_of, objectives_of
    from raynas.samplers.studies import write_studies

    folder = RunFolder.open(path)
    table = read(folder)
    table = table.filter(pc.equal(table["stage"], SEARCH))
    if not table.num_rows:
        raise UserError(
            f"run {folder.place} has no results yet", hint="continue it with `raynas resume`"
        )
    known = kept(folder)
    space, remark = known.space, known.remark
    columns = (table[name].unique().to_pylist() for name in ("proposal", "arch"))
    texts = list(dict.fromkeys(text for column in columns for text in column))
    if space is not None and not space.reads(texts):
        space, remark = None, "the run does not keep the options of all its architectures"
    if space is None:
        space = whole_texts(texts)
        remark += "; each architecture is one parameter of the study"
    description = folder.info.description
    description = description if isinstance(description, dict) else {}
    bounds, objectives = bounds_of(description), objectives_of(description)
    sought = [objective.metric for objective in objectives]
    arms = dict.fromkeys(table["arm"].to_pylist())
    write_studies(
        to.absolute(),
        space.choices,
        objectives,
        bounds,
        {
            f"{folder.info.run}/{arm}": past_trials(folder, space, sought, bounds, SEARCH, arm)[0]
            for arm in arms
        },
        _times(table, quick=known.quick),
    )
    return WrittenFile(to.absolute(), remark)


def _times(table: pa.Table, *, quick: bool) -> dict[int, tuple[datetime, datetime]]:
    """Return when each trial began and ended, by the time at which its rows were stored.

    Args:
        table: The rows of the run.
        quick: True if evaluations take no time, whatever seconds a benchmark's table gives them.
    """
    found: dict[int, tuple[datetime, datetime]] = {}
    columns = table["trial"].to_pylist(), _moments(table), table["seconds"].to_pylist()
    for trial, ended, seconds in zip(*columns, strict=True):
        took = 0.0 if quick or not is_time(seconds) else seconds
        began = ended - timedelta(seconds=took)
        first, last = found.get(trial, (began, ended))
        found[trial] = min(first, began), max(last, ended)
    return found


def _moments(table: pa.Table) -> list[datetime]:
    """Return when the rows were stored, limited to the years 1970 to 9999."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["time"]
    first, last = 0, 253_402_300_799 * 10**6
    time = pc.max_element_wise(pc.min_element_wise(column.cast(pa.int64()), last), first)
    found: list[datetime] = time.cast(column.type).to_pylist()
    return found


def write_report_of(path: Path) -> WrittenFile:
    """Write the report of a run anew, from what is stored; nothing is executed.

    Args:
        path: The folder of the run.

    Returns:
        The report, and what is missing in it.

    Raises:
        UserError: If there is no such run.
    """
    from raynas.reports import write_report

    folder = RunFolder.open(path)
    known = kept(folder)
    remark = f"architectures are written, not drawn: {known.remark}" if known.remark else ""
    return WrittenFile(write_report(folder, known.space), remark)
