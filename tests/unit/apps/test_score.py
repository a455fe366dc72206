"""`raynas score`: the file it writes is the experiment that was asked for, the table is whole."""

from __future__ import annotations

import ast
import io
import math
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from commands import done, raynas, stored
from rich.console import Console

from raynas.apps.score import (
    ENSEMBLE,
    ScoreRequest,
    check_table,
    load_request,
    score_table,
    scored_run,
    write_table,
)
from raynas.core import UserError
from raynas.core.ranks import log_rank_sum
from raynas.data import CIFAR10, Digits
from raynas.evaluators import ZeroShot
from raynas.experiment import Experiment, LoadedExperiment
from raynas.pipeline import launch
from raynas.pipeline.interruption import RunInterrupted
from raynas.proxies import AZNAS, NASWOT, Params, SynFlow, ZiCo
from raynas.runners.local import LocalRunner
from raynas.samplers import Exhaustive, Listed, Random
from raynas.schedulers import NoStopping
from raynas.search.job_source import JobSource
from raynas.spaces import NASBench201
from raynas.store import RunFolder, read

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = '''
"""Networks in one line, data, and all that a search has and scoring leaves out."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from beside import WIDTHS
from raynas.core import Bound, Choice
from raynas.data import Digits
from raynas.evaluators import Retrain, Screen, ZeroShot
from raynas.experiment import Budget, Experiment, RankingCheck
from raynas.proxies import L2Norm
from raynas.samplers import RegularizedEvolution
from raynas.schedulers import ASHA
from raynas.spaces import SearchSpace
from raynas.training import Recipe

Finalists = Objective = given = None  # names of this file, which must stay its own


class Plain(nn.Sequential):
    """Not the proxy."""


@dataclass(frozen=True)
class Tiny(SearchSpace):
    name: ClassVar[str] = "tiny"
    widths: tuple[int, ...] = WIDTHS

    @property
    def choices(self):
        return (
            Choice("w", self.widths, ordered=True),
            Choice("act", ("it's", 'a "b"|c')),
        )

    def build(self, arch, input_shape=(3, 32, 32), num_classes=10):
        act = nn.ReLU() if arch["act"] == "it's" else nn.SiLU()
        return Plain(
            nn.Conv2d(input_shape[0], arch["w"], 1), nn.BatchNorm2d(arch["w"]), act,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(arch["w"], num_classes),
        )


def experiment() -> Experiment:
    return Experiment(
        name="mine", space=Tiny(), data=Digits(subset=300), evaluator=Retrain(Recipe(epochs=3)),
        sampler=RegularizedEvolution(3, 2), scheduler=ASHA(min_step=1, factor=3), seed=5,
        screen=Screen(ZeroShot((L2Norm(),), batch=8), keep=0.5),
        ranking_check=RankingCheck(Retrain(Recipe(epochs=1)), count=2),
        bounds=(Bound("params", max=1),), budget=Budget(trials=None, hours=1e-9),
        smoke={"evaluator.recipe.epochs": 1},
    )
'''
RELU, SILU = "w=4,act=it's", 'w=8,act=a "b"|c'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "beside.py").write_text("WIDTHS = (4, 8, 12)\n")
    (folder / "tiny.py").write_text(TINY)
    return folder / "tiny.py"


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """All six of the tiny space; half of them have no ReLU."""
    path = tmp_path_factory.mktemp("run") / "run"
    asked = ("--all", "--proxies", "naswot,synflow,aznas,params", "--batch", "8")
    done("score", tiny, *asked, "--local", "--output", path)
    return RunFolder.open(path)


def asked(request: ScoreRequest, **overrides: object) -> Experiment:
    return load_request(request, overrides).experiment


# -- the file ----------------------------------------------------------------------------------


def test_a_space_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # as if it were here
    monkeypatch.setattr("raynas.experiment.loading.available", lambda data: data)
    loaded = load_request(
        ScoreRequest("nasbench201", random=7, batch=16, seed=3), {"space.cells": 1}
    )
    assert loaded.experiment == Experiment(
        name="score-nasbench201",
        space=NASBench201(cells=1),
        data=Digits(),
        evaluator=ZeroShot((NASWOT(), SynFlow(), Params()), batch=16),
        sampler=Random(),
        objectives=loaded.experiment.objectives,
        budget=loaded.experiment.budget,
        finalists=loaded.experiment.finalists,
        baselines=(),
        seed=3,
    )
    assert [o.metric for o in loaded.experiment.objectives] == ["naswot"]
    assert (loaded.experiment.budget.trials, loaded.experiment.finalists.top) == (7, 0)
    imported = [n.module for n in ast.parse(loaded.source).body if isinstance(n, ast.ImportFrom)]
    assert imported == sorted(imported, key=str)
    assert asked(ScoreRequest("nasbench201")).budget.trials == 100
    assert asked(ScoreRequest("nasbench201", data="cifar10")).data == CIFAR10()


def test_a_file_gives_its_space_and_data_and_nothing_else(tiny: Path) -> None:
    loaded = load_request(ScoreRequest(str(tiny), proxies=("Plain", "zico"), batch=4), {})
    found = loaded.experiment
    assert (found.name, found.seed, loaded.path) == ("score-tiny", 0, tiny)
    assert found.space.size == 6
    assert found.data == Digits(subset=300)
    assert isinstance(found.evaluator, ZeroShot)
    assert [p.name for p in found.evaluator.proxies] == ["plain", "zico"]
    assert (found.scheduler, found.screen, found.bounds) == (NoStopping(), None, ())
    assert found.ranking_check is None
    assert (dict(found.smoke), found.budget.trials, found.budget.hours) == ({}, 100, None)
    network = found.space.build(found.space.architecture(RELU), (1, 8, 8), 10)
    assert type(network).__doc__ == "Not the proxy."
    ast.parse(loaded.source)


def test_scoring_a_file_trains_nothing_whatever_its_experiment_does(run: RunFolder) -> None:
    assert "ranking_check=RankingCheck(" in run.source.read_text()
    assert {row["stage"] for row in read(run).to_pylist()} == {"search"}


def test_the_file_of_a_scoring_run_can_be_scored(run: RunFolder, tmp_path: Path) -> None:
    again = tmp_path / "again.py"
    again.write_text(run.source.read_text().replace("from beside", "WIDTHS = (4,)\n#"))
    assert asked(ScoreRequest(str(again), every=True)).budget.trials == 2


@pytest.mark.parametrize("texts", [(RELU, SILU), (SILU,), (SILU, RELU, SILU)])
def test_named_architectures_whatever_their_letters(tiny: Path, texts: tuple[str, ...]) -> None:
    found = asked(ScoreRequest(str(tiny), texts))
    assert found.sampler == Listed(texts)
    assert found.budget.trials == len(set(texts))


def test_bars_of_cells_and_isomorphic_ones_count_once() -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    dead = "|none~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"  # leads nowhere
    found = asked(ScoreRequest("nasbench201", (cell, none, dead)))
    assert found.sampler == Listed((cell, none, dead))
    assert found.budget.trials == 2


def test_every_architecture_of_the_space_as_it_is_set(tiny: Path) -> None:
    found = asked(ScoreRequest(str(tiny), every=True))
    assert (found.sampler, found.budget.trials) == (Exhaustive(), 6)
    wide = asked(ScoreRequest(str(tiny), every=True), **{"space.widths": (2, 3, 4, 5)})
    assert wide.budget.trials == 8
    few = asked(ScoreRequest(str(tiny), every=True), **{"budget.trials": 4})
    assert few.budget.trials == 4


def test_proxies_by_either_name_in_any_case() -> None:
    names = ("ZICO", "AzNas", "NASWOT", "l2norm", "epe_nas", "EPENAS")
    found = asked(ScoreRequest("nasbench201", proxies=names[:-1])).evaluator
    assert isinstance(found, ZeroShot)
    assert [p.name for p in found.proxies] == ["zico", "aznas", "naswot", "l2_norm", "epe_nas"]
    assert found.proxies[0] == ZiCo()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "nasbench20"}, r"unknown space 'nasbench20'; .*did you mean 'nasbench201'"),
        ({"space": "nowhere.py"}, r"no experiment file '.*nowhere\.py'"),
        ({"data": "digit"}, r"unknown data set 'digit'; .*did you mean 'digits'"),
        ({"data": "arrays"}, r"'arrays' needs settings; expected: cifar10, .*experiment's file"),
        ({"proxies": ("naswot", "syn_flow")}, r"unknown proxy 'syn_flow'; .*mean 'synflow'"),
        ({"proxies": ("zen", "ZenScore")}, r"two proxies give zen"),
        ({"proxies": ()}, r"no proxies; name at least one"),
        ({"architectures": ("x",)}, r"malformed NAS-Bench-201 cell 'x'"),
        ({"architectures": ("x",), "every": True}, r"several choices .*one of: arch.*, --random"),
        ({"random": 3, "every": True}, r"several choices"),
        ({"space": "zen", "every": True}, r"exhaustive: space 'zen' has .* architectures"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        asked(ScoreRequest(**{"space": "nasbench201", **changes}))
    assert "\n" not in str(told.value)


def test_a_file_has_its_own_data(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"--data digits and the file .*leave --data out"):
        ScoreRequest(str(tiny), data="digits")


# -- the table ---------------------------------------------------------------------------------


def test_the_table_has_all_best_first_and_says_what_is_missing(run: RunFolder) -> None:
    folder, proxies = scored_run(run.path)
    table = score_table(folder, proxies)
    parts = [f"aznas_{p}" for p in ("expressivity", "progressivity", "trainability", "complexity")]
    assert table.column_names == [
        "arch", "params", "macs", "naswot", "synflow", *parts, "aznas", ENSEMBLE, "message",
    ]  # fmt: skip
    rows = {row["arch"]: row for row in table.to_pylist()}
    assert len(rows) == len(table) == 6
    for text, row in rows.items():
        assert row["params"] == 14 * int(text[2 : text.index(",")]) + 10
        failed = "b" in text
        assert (row["naswot"] is None) == failed
        assert (row["message"] is not None) == failed
        assert row["synflow"] is not None
        assert row["aznas"] is not None
    assert sum("no naswot: no ReLU was called" in (r["message"] or "") for r in rows.values()) == 3
    sums = table[ENSEMBLE].to_pylist()
    assert sums == sorted(sums, reverse=True)


def test_ranks_together_are_those_of_the_proxies(run: RunFolder) -> None:
    table = score_table(*scored_run(run.path)).to_pydict()
    columns = [
        [math.nan if v is None else v for v in table[name]]
        for name in ("naswot", "synflow", "aznas", "params")
    ]
    assert table[ENSEMBLE] == pytest.approx(log_rank_sum(columns).tolist())
    parts = {name: table[name] for name in AZNAS().parts}
    assert table["aznas"] == pytest.approx(AZNAS().combine(parts).tolist())


def test_proxies_of_parts_compare_those_that_have_them_all(tiny: Path, tmp_path: Path) -> None:
    """TE-NAS: a network without a ReLU has no linear regions."""
    path = tmp_path / "run"
    done("score", tiny, "--all", "--proxies", "params,TENAS", "--batch", "8", "--local",
         "--output", path)  # fmt: skip
    table = score_table(*scored_run(path))
    rows = table.to_pylist()
    parts = ("tenas_ntk", "tenas_regions")
    lacking = [row for row in rows if any(row[part] is None for part in parts)]
    whole = [row for row in rows if row not in lacking]
    assert lacking
    assert all(row["tenas"] is None and row["message"] for row in lacking)
    assert sum(row["tenas"] for row in whole) == sum(range(1, len(whole) + 1)) * len(parts)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_are_read_back(run: RunFolder, tmp_path: Path, ending: str) -> None:
    table, file = score_table(*scored_run(run.path)), tmp_path / "new" / f"t.{ending}"
    check_table(file)
    write_table(table, file)
    back = pq.read_table(file) if ending == "parquet" else pyarrow.csv.read_csv(file)
    for name in table.column_names:
        wanted = ["" if v is None else v for v in table[name].to_pylist()]
        assert ["" if v is None else v for v in back[name].to_pylist()] == wanted, name


def test_a_table_of_another_kind_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    called = raynas("score", "nasbench201", "--local", "--output", tmp_path / "run",
                    "--table", "x.txt")  # fmt: skip
    assert (called.code, called.err) == (
        2, "error: --table x.txt; expected: a name that ends in .csv or .parquet\n",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()
    check_table(None)


# -- runs --------------------------------------------------------------------------------------


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def begin(request: ScoreRequest, path: Path, runner: type[LocalRunner] = LocalRunner) -> RunFolder:
    def make(_loaded: LoadedExperiment, _folder: Path) -> LocalRunner:
        return runner()

    loaded = load_request(request, {})
    return launch.start(loaded, path, make, overrides={}, smoke=False, console=quiet())


def scores_of(folder: RunFolder) -> dict[str, Any]:
    return {row["arch"]: row for row in score_table(*scored_run(folder.path)).to_pylist()}


class Interrupting(LocalRunner):
    """Ctrl-C after two architectures."""

    def run(self, work: JobSource) -> None:
        real, seen = work.report, 0

        def report(*args: Any, **more: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == 2:
                work.interrupt()
            return real(*args, **more)

        work.report = report  # type: ignore[method-assign]
        super().run(work)


def test_ctrl_c_and_resume_score_the_rest(tiny: Path, run: RunFolder, tmp_path: Path) -> None:
    request = ScoreRequest(
        str(tiny), every=True, proxies=("naswot", "synflow", "aznas", "params"), batch=8
    )
    with pytest.raises(RunInterrupted):
        begin(request, tmp_path / "run", Interrupting)
    folder = RunFolder.open(tmp_path / "run")
    assert len(scores_of(folder)) == 2
    done("resume", folder.path, "--local")
    assert scores_of(folder) == scores_of(run)
    before = stored(folder.path)
    done("resume", folder.path, "--local")
    assert stored(folder.path) == before


def test_a_run_of_a_named_space_goes_on_and_is_reported(tmp_path: Path) -> None:
    """The file that `raynas score` wrote for it is gone; its copy in the run is enough."""
    path = tmp_path / "run"
    small = ("--set", "space.channels=4", "--set", "space.cells=1")
    done("score", "nasbench201", "--random", "3", "--proxies", "synflow", "--batch", "8", *small,
         "--local", "--output", path)  # fmt: skip
    folder = RunFolder.open(path)
    assert not Path(folder.info.source_file).exists()
    first = scores_of(folder)
    done("resume", path, "--local", "--trials", "+2")
    more = scores_of(folder)
    assert len(more) == 5
    assert {text: more[text]["synflow"] for text in first} == {
        text: row["synflow"] for text, row in first.items()
    }
    assert "random 5/5" in done("status", path)
    assert done("report", path) == f"report: {path / 'report.html'}\n"
    assert "synflow" in folder.report.read_text()


def test_only_runs_of_scores_are_printed_again(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "trained.py"
    text = tiny.read_text().replace("from beside import WIDTHS", "WIDTHS = (4,)")
    text = text.replace("hours=1e-9", "hours=1").replace("trials=None", "trials=1")
    text = text.replace("Finalists = Objective", "_").replace(
        'bounds=(Bound("params", max=1),),', ""
    )
    file.write_text(text.replace("Recipe(epochs=3)", "Recipe(epochs=1)"))
    done("run", file, "--local", "--output", tmp_path / "run", "--set", "baselines=()",
         "--set", "finalists.top=0")  # fmt: skip
    with pytest.raises(UserError, match=r"has no scores: its evaluator is retrain; score its"):
        scored_run(tmp_path / "run")


def test_finalists_and_other_samplers_repeat_no_row_of_the_table(
    tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "search.py"
    start, _, _ = tiny.read_text().partition("def experiment()")
    file.write_text(
        start.replace("from beside import WIDTHS", "WIDTHS = (4, 8)")
        + """
from raynas.core import Objective
from raynas.experiment import Finalists
from raynas.proxies import SynFlow
from raynas.samplers import Random


def experiment():
    return Experiment(
        space=Tiny(), data=Digits(subset=300), evaluator=ZeroShot((SynFlow(),), batch=8),
        sampler=RegularizedEvolution(3, 2), baselines=(Random(),), budget=Budget(trials=3),
        objectives=(Objective("synflow"),),
        finalists=Finalists(top=1, seeds=1, evaluator=Retrain(Recipe(epochs=1))),
    )
"""
    )
    done("run", file, "--local", "--output", tmp_path / "run")
    rows = read(RunFolder.open(tmp_path / "run")).to_pylist()
    assert {row["stage"] for row in rows} == {"search", "final"}
    table = score_table(*scored_run(tmp_path / "run"))
    found = table["arch"].to_pylist()
    assert len(found) == len(set(found)) < len(rows)
    assert table["synflow"].null_count == 0


def test_a_run_without_a_row_has_no_table(tiny: Path, tmp_path: Path) -> None:
    class Never(LocalRunner):
        def run(self, work: JobSource) -> None:
            work.interrupt()

    with pytest.raises(RunInterrupted):
        begin(ScoreRequest(str(tiny), every=True, batch=8), tmp_path / "run", Never)
    with pytest.raises(UserError, match=r"has no scores yet; continue it with `raynas resume`"):
        score_table(*scored_run(tmp_path / "run"))
