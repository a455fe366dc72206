"""Scores without a search: an experiment that asks proxies only, and the table that it gives.

`raynas score` writes such an experiment's file, so its run is stored, resumed and reported like
any other.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.core import UserError, one_of
from raynas.core.ranks import log_rank_sum
from raynas.experiment import Loaded, load
from raynas.store import RunFolder, read

if TYPE_CHECKING:
    import pyarrow as pa

    from raynas.proxies import Proxy

ENSEMBLE = "ensemble"
"""The column of the proxies' ranks together."""


@dataclass(frozen=True)
class Request:
    """What to score: named ``architectures``, or ``every`` one, or ``random`` ones.

    ``space``: a name of `raynas list spaces`, or an experiment's file, whose space and data are
    taken. ``proxies``: names of `raynas list proxies`. ``data``: a name of `raynas list data`.
    """

    space: str
    architectures: tuple[str, ...] = ()
    every: bool = False
    random: int = 100
    proxies: tuple[str, ...] = ("naswot", "synflow", "params")
    data: str = "digits"
    batch: int = 64
    seed: int = 0


def load_request(request: Request, overrides: Mapping[str, object]) -> Loaded:
    """The experiment of a request; its source is the text of a Python file.

    Raises: UserError for unknown names.
    """
    path = Path(request.space)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"score_{path.stem}.py"
        beside = None
        if path.suffix == ".py":
            loaded = load(path)
            file.write_text(_of_file(loaded, request), encoding="utf-8")
            beside = path.absolute().parent
        else:
            file.write_text(_of_space(request), encoding="utf-8")
        made = load(file, overrides, name=f"score-{path.stem}", beside=beside)
    return dataclasses.replace(made, path=path.absolute()) if beside else made


def _of_space(request: Request) -> str:
    from raynas.data import DATASETS
    from raynas.spaces import SPACES

    if request.space not in SPACES:
        raise one_of(
            "space", request.space, sorted(SPACES), "or give the file of an experiment, *.py"
        )
    if request.data not in DATASETS:
        raise one_of("data set", request.data, sorted(DATASETS))
    space, data = SPACES[request.space].__name__, DATASETS[request.data].__name__
    return f'''"""Scores of untrained networks; written by `raynas score`."""

from raynas.core import Objective
from raynas.data import {data}
from raynas.evaluators import ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
from raynas.spaces import {space}
{_imports(request)}

def experiment() -> Experiment:
    return Experiment(
        space={space}(),
        data={data}(),
{_settings(request)}
    )
'''


def _of_file(given: Loaded, request: Request) -> str:
    return f"""{given.source}

# -- added by `raynas score` ---------------------------------------------------------------------
import dataclasses as _dataclasses

from raynas.core import Objective
from raynas.evaluators import ZeroShot
from raynas.experiment import Budget, Experiment, Finalists
{_imports(request)}
_given = experiment


def experiment() -> Experiment:
    return _dataclasses.replace(
        _given(),
        screen=None,
        bounds=(),
        smoke={{}},
{_settings(request)}
    )
"""


def _imports(request: Request) -> str:
    proxies = ", ".join(sorted(type(p).__name__ for p in _proxies(request)))
    sampler = _sampler(request).partition("(")[0]
    return f"from raynas.proxies import {proxies}\nfrom raynas.samplers import {sampler}\n"


def _settings(request: Request) -> str:
    proxies = "".join(f"{type(p).__name__}(), " for p in _proxies(request)).rstrip()
    trials = request.random if not (request.architectures or request.every) else 10**9
    return f"""        evaluator=ZeroShot(proxies=({proxies}), batch={request.batch}),
        sampler={_sampler(request)},
        objectives=(Objective("{_objective(request)}"),),
        budget=Budget(trials={trials}),
        finalists=Finalists(top=0),
        against=(),
        seed={request.seed},"""


def _sampler(request: Request) -> str:
    if request.architectures:
        return f"Listed({request.architectures!r})"
    return "Exhaustive()" if request.every else "Random()"


def _objective(request: Request) -> str:
    return next(part for proxy in _proxies(request) for part in proxy.parts)


def _proxies(request: Request) -> list[Proxy]:
    from raynas.proxies import check_proxies, proxies

    known = proxies()
    named = {**known, **{cls.__name__.casefold(): cls for cls in known.values()}}
    found = []
    for name in request.proxies:
        if name.casefold() not in named:
            raise one_of("proxy", name, sorted(known))
        found.append(named[name.casefold()]())
    check_proxies(found)
    return found


# -- the table ---------------------------------------------------------------------------------


def score_table(folder: RunFolder, proxies: Sequence[Proxy]) -> pa.Table:
    """A row per architecture, best first: text, costs, scores, ranks together, remarks.

    A proxy of several parts gets a column of its own name, their ranks together; ``ensemble``
    sums the logarithms of all proxies' ranks. Both compare architectures of this table only.
    """
    import pyarrow as pa

    rows = read(folder)
    if not len(rows):
        raise UserError(f"run {folder.path} has no scores yet", cure="`raynas resume` goes on")
    names = [metric.name for metric in folder.info.metrics]
    columns: dict[str, Any] = {name: rows[name].to_pylist() for name in ("arch", "params", "macs")}
    table = {name: _floats(rows[name]) for name in ("params", "macs", *names)}
    columns |= {name: rows[name].to_pylist() for name in names}
    combined = [proxy.combine(table) for proxy in proxies]
    for proxy, scores in zip(proxies, combined, strict=True):
        if len(proxy.parts) > 1:
            columns[proxy.name] = scores.tolist()
    columns[ENSEMBLE] = log_rank_sum(combined).tolist()
    columns["message"] = rows["message"].to_pylist()
    order = np.argsort(-np.asarray(columns[ENSEMBLE]), kind="stable")
    return pa.table(columns).take(order)


def _floats(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = [np.nan if v is None else float(v) for v in column.to_pylist()]
    return np.asarray(values, dtype=np.float64)


def check_table(path: Path | None) -> None:
    """Before anything is spent. Raises: UserError for another ending than .csv or .parquet."""
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise UserError(f"--table {path}", allowed="a name that ends in .csv or .parquet")


def write_table(table: pa.Table, path: Path) -> None:
    """As .csv or .parquet."""
    from pyarrow import csv, parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
