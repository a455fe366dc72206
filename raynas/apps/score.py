"""This module scores architectures without a search, by an experiment that asks proxies only.

Its run is stored, resumed and reported like any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raynas.core import Objective, SearchProblem, SpaceExhausted, UserError, unknown_option
from raynas.core.describe import fresh
from raynas.core.ranks import log_rank_sum
from raynas.data.abilities import data_remarks
from raynas.evaluators import ZeroShot
from raynas.experiment import Budget, Experiment, Finalists, LoadedExperiment, load, with_data
from raynas.pipeline.history import reload
from raynas.samplers import Exhaustive, Listed, Random
from raynas.schedulers import NoStopping
from raynas.store import RunFolder, read
from raynas.store.schema import SEARCH

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.data.base import Dataset
    from raynas.proxies import Proxy
    from raynas.samplers import Sampler
    from raynas.spaces.base import SearchSpace

ENSEMBLE = "ensemble"
"""Name of the column with the combined ranks of all proxies."""

_RANDOM = 100
_COSTS = ("params", "macs")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreRequest:
    """A request for scores of architectures.

    They are named ``architectures``, ``every`` one of the space, or ``random`` ones (default 100).

    Attributes:
        space: A name of `raynas list spaces`, or the file of an experiment, whose space and data
            are taken.
        architectures: Text forms of the architectures.
        every: True for every architecture of the space, once.
        random: Number of random architectures.
        proxies: Names of `raynas list proxies`.
        data: A name of `raynas list data`, default digits; not with a file.
        batch: Number of images in the batch.
        seed: Seed of weights and of random architectures.

    Raises:
        UserError: More than one choice of architectures is given.
        UserError: Both ``data`` and a file are given.
    """

    space: str
    architectures: tuple[str, ...] = ()
    every: bool = False
    random: int | None = None
    proxies: tuple[str, ...] = ("naswot", "synflow", "params")
    data: str | None = None
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.architectures) + self.every + (self.random is not None) > 1:
            raise UserError(
                "score: several choices of architectures were given",
                expected="one of: architectures, --all, --random",
            )
        if self.data is not None and self._is_file:
            raise UserError(
                f"--data {self.data} and the file {self.space}",
                hint="leave --data out: the file has its own",
            )

    @property
    def _is_file(self) -> bool:
        return Path(self.space).suffix == ".py"

    @property
    def file(self) -> Path | None:
        """The file of the experiment; None where a space is named."""
        return Path(self.space).absolute() if self._is_file else None


def load_request(request: ScoreRequest, overrides: Mapping[str, object]) -> LoadedExperiment:
    """Load the experiment of a request, with the file from which its run makes it again.

    Where the files of the data set are missing and it declares its images, random ones stand in.

    Args:
        request: What to score.
        overrides: Path of a setting -> value.

    Returns:
        The loaded experiment.

    Raises:
        UserError: A space, data set or proxy is not known.
        UserError: The data set needs settings.
    """
    given = load(request.file) if request.file else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"score_{Path(request.space).stem}.py"

        def loaded(trials: int) -> LoadedExperiment:
            file.write_text(_file_text(request, trials, given), encoding="utf-8")
            return load(file, overrides, beside=given.path.parent if given else None)

        made = loaded(request.random or _RANDOM)
        if made.experiment.sampler.finite:
            made = loaded(_count(made.experiment))
    return with_data(dataclasses.replace(made, path=given.path) if given else made)


def _file_text(request: ScoreRequest, trials: int, given: LoadedExperiment | None) -> str:
    """Return the file that a run of scores stores; it calls :func:`score_experiment`.

    Where an experiment's file is scored, its text comes first, and the added text uses none of its
    names.
    """
    if given is None:
        return f'''"""Scores of untrained networks; written by `raynas score`."""

from raynas.apps.score import ScoreRequest, score_experiment
from raynas.experiment import Experiment


def experiment() -> Experiment:
    return score_experiment(
        {request!r},
        trials={trials},
    )
'''
    named = dataclasses.replace(request, space=Path(request.space).name)
    return f"""{given.source}

# -- added by `raynas score` ---------------------------------------------------------------------


def experiment(given=experiment):
    from raynas.apps.score import ScoreRequest, score_experiment

    return score_experiment(
        {named!r},
        trials={trials},
        given=given(),
    )
"""


def score_experiment(
    request: ScoreRequest, trials: int, given: Experiment | None = None
) -> Experiment:
    """Return the experiment that scores architectures by proxies.

    Args:
        request: What to score.
        trials: Number of architectures.
        given: An experiment whose space, data and resources are taken; None takes the space and
            the data set that the request names.

    Returns:
        An experiment without trainings.

    Raises:
        UserError: A space, data set or proxy is not known.
        UserError: The data set needs settings.
    """
    proxies = _proxies(request)
    parts: dict[str, Any] = {
        "name": f"score-{Path(request.space).stem}",
        "evaluator": ZeroShot(proxies=tuple(proxies), batch=request.batch),
        "sampler": _sampler(request),
        "objectives": (Objective(next(part for proxy in proxies for part in proxy.parts)),),
        "budget": Budget(trials=trials),
        "finalists": Finalists(top=0),
        "baselines": (),
        "seed": request.seed,
    }
    if given is None:
        return Experiment(space=_space(request), data=_data(request.data or "digits"), **parts)
    return dataclasses.replace(
        given,
        scheduler=NoStopping(),
        screen=None,
        ranking_check=None,
        bounds=(),
        smoke={},
        **parts,
    )


def _count(experiment: Experiment) -> int:
    """Return the number of different architectures of a sampler with a fixed list."""
    sampler, found = fresh(experiment.sampler), 0
    sampler.setup(
        experiment.space, SearchProblem(experiment.objectives, 1, experiment.seed, "count")
    )
    with contextlib.suppress(SpaceExhausted):
        while True:
            sampler.ask(found)
            found += 1
    return found


def _space(request: ScoreRequest) -> SearchSpace:
    from raynas.spaces import SPACES

    if request.space not in SPACES:
        raise unknown_option(
            "space", request.space, sorted(SPACES), "or give the file of an experiment, *.py"
        )
    return SPACES[request.space]()


def _data(name: str) -> Dataset:
    """Return a data set that needs no settings."""
    from raynas.data import DATASETS

    simple = {
        known: cls
        for known, cls in DATASETS.items()
        if not any(p.default is p.empty for p in inspect.signature(cls).parameters.values())
    }
    if name in DATASETS and name not in simple:
        raise UserError(
            f"data set {name!r} needs settings",
            expected=", ".join(sorted(simple)),
            hint="write them in an experiment's file and score that file",
        )
    if name not in simple:
        raise unknown_option("data set", name, sorted(simple))
    return simple[name]()


def _sampler(request: ScoreRequest) -> Sampler:
    if request.architectures:
        return Listed(request.architectures)
    return Exhaustive() if request.every else Random()


def _proxies(request: ScoreRequest) -> list[Proxy]:
    from raynas.proxies import check_proxies, proxies

    known = proxies()
    named = {**known, **{cls.__name__.casefold(): cls for cls in known.values()}}
    found = []
    for name in request.proxies:
        if name.casefold() not in named:
            raise unknown_option("proxy", name, sorted(known))
        found.append(named[name.casefold()]())
    check_proxies(found)
    return found


# -- the table ---------------------------------------------------------------------------------


def scored_run(
    path: Path, *, trust: bool = False, remark: Callable[[str], None] = lambda _: None
) -> tuple[RunFolder, Sequence[Proxy]]:
    """Open a stored run of scores.

    It executes the ``experiment.py`` of the run.

    Args:
        path: The folder of the run.
        trust: Whether the file is executed also if it belongs to another user.
        remark: Called with each sentence that a user should know of the images.

    Returns:
        The folder of the run and its proxies.

    Raises:
        UserError: The run has no scores.
    """
    folder = RunFolder.open(path)
    experiment = reload(folder, trust=trust).experiment
    evaluator = experiment.evaluator
    for line in data_remarks(experiment.data):
        remark(line)
    if not isinstance(evaluator, ZeroShot):
        raise UserError(
            f"run {path} has no scores: its evaluator is {evaluator.name}",
            hint="score its space: `raynas score FILE`",
        )
    return folder, evaluator.proxies


def score_table(folder: RunFolder, proxies: Sequence[Proxy]) -> pa.Table:
    """Make a table of scores, with a row per architecture, best first.

    Its columns are text, costs, scores, combined ranks and remarks. Scores that are missing are
    null. A proxy of several parts gets a column of its own name with their combined ranks;
    ``ensemble`` sums the logarithms of all proxies' ranks, where null ranks last. Both compare
    architectures of this table only.

    Args:
        folder: The folder of the run.
        proxies: The proxies of the run.

    Returns:
        The table.

    Raises:
        UserError: The run has no scores yet.
    """
    import pyarrow as pa

    metrics = [metric.name for metric in folder.info.metrics]
    columns = ["arch", "params", "macs", *metrics, "message"]
    every = read(folder).select(["stage", *columns]).to_pylist()
    rows = list({row["arch"]: row for row in every if row["stage"] == SEARCH}.values())
    if not rows:
        raise UserError(
            f"run {folder.path} has no scores yet", hint="continue it with `raynas resume`"
        )
    numbers = {name: _floats(row[name] for row in rows) for name in columns[1:-1]}
    combined = {proxy.name: _combined(proxy, numbers) for proxy in proxies}
    scores = {**numbers, **combined, ENSEMBLE: log_rank_sum(list(combined.values()))}
    table = pa.table(
        {
            "arch": pa.array([row["arch"] for row in rows], pa.string()),
            **{name: pa.array(found, from_pandas=True) for name, found in scores.items()},
            **{name: pa.array([row[name] for row in rows], pa.int64()) for name in _COSTS},
            "message": pa.array([row["message"] for row in rows], pa.string()),
        }
    )
    return table.take(np.argsort(-scores[ENSEMBLE], kind="stable"))


def _floats(values: Iterable[float | None]) -> Floats:
    return np.asarray([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def _combined(proxy: Proxy, numbers: Mapping[str, Floats]) -> Floats:
    """Return (n,) scores; NaN where a part is missing, and such architectures are not compared."""
    parts = {part: numbers[part] for part in proxy.parts}
    known = ~np.any([np.isnan(values) for values in parts.values()], axis=0)
    found = np.full(len(known), np.nan)
    found[known] = proxy.combine({part: values[known] for part, values in parts.items()})
    return found


def check_table(path: Path | None) -> None:
    """Check that a table can be written in the format that its name asks for.

    Args:
        path: The file of the table; None for none.

    Raises:
        UserError: The name ends neither in .csv nor in .parquet.
    """
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise UserError(f"--table {path}", expected="a name that ends in .csv or .parquet")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as .csv or .parquet.

    Args:
        table: The table.
        path: The file; missing folders are made.
    """
    from pyarrow import csv, parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
