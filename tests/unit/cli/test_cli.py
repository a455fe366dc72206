"""The command line: instant help, every command, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import done, experiment_file, raynas, stored

from raynas import __version__
from raynas.training.export import ExportedNetwork

pytestmark = pytest.mark.usefixtures("undrawn")

COMMANDS = (
    "run", "resume", "status", "top", "score", "report", "export", "export-study", "specialize",
    "list", "data",
)  # fmt: skip
EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    done("run", experiment_file(folder / "toy.py"), "--local", "--output", folder / "run")
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def steps(run: Path) -> list[tuple[int, int]]:
    table = pq.read_table(run / "results")
    return list(zip(table["trial"].to_pylist(), table["step"].to_pylist(), strict=True))


def test_help_of_every_command_imports_nothing_heavy() -> None:
    """A fresh interpreter: what is imported is what makes the command line wait."""
    script = f"""
import sys
from raynas.cli.main import main
for arguments in ([], *([c] for c in {COMMANDS!r})):
    sys.argv = ["raynas", *arguments, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
heavy = "torch ray optuna numpy pyarrow matplotlib scipy sklearn pandas jinja2 PIL".split()
found = [name for name in heavy if name in sys.modules]
own = [name for name in sys.modules if name.startswith("raynas.")]
print("LOADED", found, own)
"""
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    loaded = out.splitlines()[-1]
    assert loaded.startswith("LOADED [] ")
    assert set(re.findall(r"raynas\.(\w+)", loaded)) == {"cli", "moved", "version"}
    for command in COMMANDS:
        assert f"raynas {command}" in out or f"Usage: -c {command}" in out


def test_alone_it_shows_what_there_is() -> None:
    out = done()
    assert all(command in out for command in COMMANDS)


def test_version() -> None:
    assert done("--version") == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["Missing argument", "see: raynas run --help"]),
        (["rnu", "x.py"], ["'rnu'", "expected: demo, new, run, resume, status"]),
        (["run", "x.py", "--smok"], ["--smok", "see: raynas run --help"]),
        (["top", "x", "--every", "soon"], ["'--every'", "valid number"]),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], words: list[str]) -> None:
    called = raynas(*arguments)
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert called.err.startswith("error: ")
    for word in words:
        assert word in called.err


def test_list_shows_all_kinds_or_one() -> None:
    everything = done("list")
    kinds = [line for line in everything.splitlines() if not line.startswith(" ")]
    assert kinds == [
        "spaces",
        "data",
        "evaluators",
        "proxies",
        "samplers",
        "schedulers",
        "callbacks",
        "benchmarks",
        "rules",
    ]
    assert "ElasticResNet" in done("list", "spaces")
    assert "ElasticResNet" not in done("list", "samplers")


# -- scores ------------------------------------------------------------------------------------

SMALL = (
    "--local", "--batch", "8", "--proxies", "naswot,synflow",
    "--set", "space.channels=4", "--set", "space.cells=1",
)  # fmt: skip


def test_scores_of_random_cells_a_table_and_the_table_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = done("score", "nasbench201", "--random", "4", "--top", "2", "--table", "t.csv", *SMALL)
    _, report, head, *best, first, count = out.splitlines()
    assert report == f"report: {Path('runs/score-nasbench201/report.html').absolute()}"
    assert head.split() == ["architecture", "params", "ensemble", "naswot", "synflow"]
    assert (len(best), count) == (2, "4 architectures; 0 without a score")
    assert first.startswith("best by combined rank: |")
    table = Path("t.csv").read_text().splitlines()
    assert len(table) == 5
    assert first.split(": ")[1] in table[1]
    again = done("score", "runs/score-nasbench201", "--top", "2", "--table", "again.csv")
    assert again.splitlines() == [head, *best, first, count]
    assert Path("again.csv").read_text().splitlines() == table


def test_scores_of_a_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = done("score", EXPERIMENTS / "custom_space.py", "--random", "5", "--local", "--batch", "8")
    assert "5 architectures; " in out
    out = done("score", EXPERIMENTS / "custom_data.py", "--random", "2", *SMALL)
    assert "2 architectures; 0 without a score" in out
    assert {p.name for p in Path("runs").iterdir()} == {"score-custom_space", "score-custom_data"}
    info = json.loads(Path("runs/score-custom_data/run.json").read_text())
    assert info["description"]["data"]["class"] == "Arrays"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nasbench"], ["unknown space 'nasbench'", "did you mean 'nasbench201'?"]),
        (["nasbench201", "--proxies", "naswto"], ["unknown proxy 'naswto'", "'naswot'?"]),
        (["nasbench201", "--proxies", ","], ["no proxies"]),
        (["nasbench201", "--data", "cifar"], ["unknown data set 'cifar'"]),
        (["nasbench201", "--random", "0"], ["'--random'"]),
        (["nasbench201", "--all", "--random", "9"], ["one of: architectures, --all, --random"]),
        (["nasbench201", "--set", "space.cell=1"], ["did you mean 'cells'?"]),
        (["nasbench201", "--batch", "9999"], ["a batch of 9999 images"]),
        (["nowhere.py"], ["no experiment file"]),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    called = raynas("score", *arguments, "--local")
    assert (called.code, called.err.count("\n"), called.out) == (2, 1, "")
    for word in words:
        assert word in called.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_where_its_report_is(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py")
    out = done("run", file, "--smoke", "--local", "--output", tmp_path / "out")
    *_, last = out.splitlines()
    assert last == f"report: {tmp_path / 'out' / 'report.html'}"
    assert (tmp_path / "out" / "report.html").is_file()
    assert "search · random 100%: " in out
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (info["smoke"], info["name"]) == (True, "toy")


def test_runs_are_numbered_in_the_folder_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = experiment_file(tmp_path / "toy.py", finalists="Finalists(top=0)")
    for _ in range(2):
        done("run", file, "--smoke", "--local")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["toy", "toy-2"]


def test_resume_of_a_finished_run_evaluates_nothing(run: Path) -> None:
    before = stored(run)
    out = done("resume", run, "--local")
    assert out == f"report: {run / 'report.html'}\n"
    assert stored(run) == before


def test_resume_extends_by_so_many_trials(run: Path) -> None:
    before = steps(run)
    done("resume", run, "--local", "--trials", "+2")
    after = steps(run)
    assert set(before) < set(after)
    assert len(after) == len(set(after))
    table = pq.read_table(run / "results")
    searched = {t for t, s in zip(*(table[n].to_pylist() for n in ("trial", "stage")), strict=True)
                if s == "search"}  # fmt: skip
    assert len(searched) == 8
    assert "random 8/8" in done("status", run)
    before_again = stored(run)
    done("resume", run, "--local")  # the longer budget is remembered
    assert stored(run) == before_again


@pytest.mark.parametrize("text", ["2", "+0", "+x", "-3", "+", "+1.5"])
def test_more_trials_need_a_plus(run: Path, text: str) -> None:
    before = stored(run)
    called = raynas("resume", run, f"--trials={text}")
    assert (called.code, called.err) == (
        2, f"error: --trials {text}; expected: +N with N >= 1, as --trials +32\n",
    )  # fmt: skip
    assert stored(run) == before


def test_status_from_the_store_alone(run: Path) -> None:
    for left in run.iterdir():
        if left.name not in ("results", "run.json"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    out = done("status", run)
    assert "random 6/6" in out
    assert "finalists: 4 of 4 trained" in out


def test_report_anew(run: Path) -> None:
    first = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    shutil.rmtree(run / "figures")
    assert done("report", run) == f"report: {run / 'report.html'}\n"
    assert len((run / "report.html").read_bytes()) == pytest.approx(len(first), rel=0.1)
    assert list((run / "figures").glob("*.png"))


def test_report_without_what_the_file_imports(run: Path) -> None:
    (run / "experiment.py").write_text("import gone_with_the_wind\n")
    done("report", run)
    called = raynas("export", run)
    assert called.code == 2
    assert "No module named 'gone_with_the_wind'" in called.err


def test_top_looks_until_ctrl_c(run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "raynas.cli.main", "top", run, "--every", "0.2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "FORCE_COLOR": "1", "TERM": "xterm"},
        # whoever runs the tests in the background of a shell ignores Ctrl-C, and so would it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "toy" in first
    assert out.count("not running") >= 1


def test_top_of_no_run_ends_at_once(tmp_path: Path) -> None:
    called = raynas("top", tmp_path)
    assert called.code == 2
    assert "is not a run folder (no run.json)" in called.err


# -- exports -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    file = EXPERIMENTS / "custom_space.py"
    more = ("--set", "baselines=()", "--set", "budget.trials=1")
    done("run", file, "--smoke", "--local", "--output", run, *more)
    return run


def test_export_of_all_formats_shows_the_differences(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    out = done("export", trained, "--to", tmp_path / "out", "--format", "safetensors, onnx,torch")
    found = dict(line.split(": ", 1) for line in out.splitlines())
    assert set(found) == {"architecture", "safetensors", "onnx", "torch"}
    names = {"safetensors": "network.safetensors", "onnx": "network.onnx", "torch": "network.pt2"}
    for name, file in names.items():
        path, _, told = found[name].partition("  (outputs differ by at most ")
        assert Path(path) == tmp_path / "out" / file
        assert Path(path).stat().st_size > 1000
        assert float(told.rstrip(")")) <= 1e-4
    architecture = json.loads((tmp_path / "out" / "architecture.json").read_text())
    assert architecture["input_shape"] == [1, 8, 8]
    assert architecture["choices"].keys() == {"layers", "width", "kernel", "activation", "norm"}


def test_export_goes_into_the_run_unless_told(trained: Path) -> None:
    done("export", trained)
    assert sorted(p.name for p in (trained / "export").iterdir()) == [
        "architecture.json", "network.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("tflite", ["export format 'tflite'", "expected: safetensors, onnx, torch"]),
        ("onnxx", ["did you mean 'onnx'?"]),
    ],
)
def test_an_unknown_format(trained: Path, tmp_path: Path, what: str, words: list[str]) -> None:
    called = raynas("export", trained, "--to", tmp_path / "x", "--format", f"safetensors,{what}")
    assert (called.code, called.err.count("\n")) == (2, 1)
    for word in words:
        assert word in called.err
    assert not (tmp_path / "x").exists()


def test_a_run_without_networks_has_nothing_to_export(run: Path) -> None:
    called = raynas("export", run)
    assert called.code == 2
    assert "has no trained network to export" in called.err


def test_a_search_is_opened_by_optuna(run: Path, tmp_path: Path) -> None:
    import optuna

    file = tmp_path / "out" / "study.db"
    assert done("export-study", run, file) == f"studies: {file}\n"
    assert [p.name for p in file.parent.iterdir()] == ["study.db"]
    summaries = optuna.get_all_study_summaries(f"sqlite:///{file}")
    table = pq.read_table(run / "results", columns=["stage", "trial"]).to_pylist()
    searched = {row["trial"] for row in table if row["stage"] == "search"}
    assert sum(s.n_trials for s in summaries) == len(searched) > 0
    for summary in summaries:  # on the timeline of a dashboard nothing has no width
        study = optuna.load_study(study_name=summary.study_name, storage=f"sqlite:///{file}")
        assert all(t.duration and t.duration.total_seconds() > 0 for t in study.trials)
    called = raynas("export-study", run, file)
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert f"{file} already exists; remove it" in called.err


def test_export_says_once_what_is_to_be_known_of_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ExportedNetwork({}, {}, ("logits were not compared",))
    monkeypatch.setattr("raynas.pipeline.results.export_best", lambda *_, **__: made)
    assert done("export", run) == "logits were not compared\n"
