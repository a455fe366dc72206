"""Folders of runs that somebody else has made: what reads them executes nothing of theirs."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import done, experiment_file, raynas

from raynas.core import UserError
from raynas.pipeline.history import SPACE_FILE, kept, reload
from raynas.spaces import ElasticResNet, NASBench201
from raynas.spaces.stored import StoredSpace
from raynas.store import RunFolder
from raynas.store.remote import RemoteFolder
from raynas.store.working_copies import URI_FILE, working_copy

OWN = """
@dataclass(frozen=True)
class Own(ToySpace):
    name = "own"

    def format(self, values):
        return "/".join(str(v) for v in values.values())

    def parse(self, text):
        x, y, op = text.split("/")
        return {"x": int(x), "y": int(y), "op": op}

    def graph(self, arch):
        from raynas.core import ArchitectureGraph

        return ArchitectureGraph(("in", "MARK " + arch.text), ((0, 1, "[x]"),))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    few = {"finalists": "Finalists(top=0)", "budget": "Budget(trials=3)"}
    done(
        "run", experiment_file(folder / "plain.py", **few), "--local", "--output", folder / "plain"
    )
    own = experiment_file(folder / "own.py", OWN, space="Own()", **few)
    done("run", own, "--local", "--output", folder / "own")
    return folder


def copied(finished: Path, to: Path, name: str) -> Path:
    return Path(shutil.copytree(finished / name, to / name))


def hostile(run: Path) -> Path:
    """Replace the experiment by one that leaves a mark; gives the mark."""
    mark = run.parent / "was-executed"
    (run / "experiment.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nraise SystemExit(7)\n"
    )
    return mark


@pytest.mark.parametrize(("name", "drawn"), [("plain", "op = "), ("own", "MARK ")])
def test_report_draws_without_executing(
    finished: Path, tmp_path: Path, name: str, drawn: str
) -> None:
    run = copied(finished, tmp_path, name)
    mark = hostile(run)
    (run / "report.html").unlink()
    assert done("report", run) == f"report: {run / 'report.html'}\n"
    text = (run / "report.html").read_text()
    assert '<svg class="net"' in text
    assert drawn in text
    assert not mark.exists()


@pytest.mark.parametrize("name", ["plain", "own"])
def test_studies_have_the_choices_without_executing(
    finished: Path, tmp_path: Path, name: str
) -> None:
    import optuna

    run = copied(finished, tmp_path, name)
    mark = hostile(run)
    assert done("export-study", run, tmp_path / "s.db") == f"studies: {tmp_path / 's.db'}\n"
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 's.db'}")
    trials = optuna.load_study(
        study_name=study.study_name, storage=f"sqlite:///{tmp_path / 's.db'}"
    ).trials
    assert {frozenset(t.params) for t in trials} == {frozenset(("x", "y", "op"))}
    assert all(t.params["op"] in "abc" and 0 <= t.params["y"] < 6 for t in trials)
    assert not mark.exists()


def test_status_and_history_execute_nothing(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path, "plain")
    mark = hostile(run)
    assert "random 3/3" in done("status", run)
    assert "no violations" in done("verify", run, "--history")
    assert not mark.exists()


def test_a_run_that_keeps_no_choices_degrades_with_a_line(finished: Path, tmp_path: Path) -> None:
    import optuna

    run = copied(finished, tmp_path, "plain")
    (run / SPACE_FILE).unlink()
    line, _report = done("report", run).splitlines()
    assert line.startswith("architectures are written, not drawn: ")
    assert line.endswith(f"`raynas resume {run}` keeps them")
    line, _studies = done("export-study", run, tmp_path / "s.db").splitlines()
    assert line.endswith("each architecture is one parameter of the study")
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 's.db'}")
    assert study.n_trials == 3
    done("resume", run, "--local")
    assert kept(RunFolder.open(run)).remark == ""


@pytest.mark.parametrize(
    "left",
    [b"", b"[]", b'{"format": 1}', b"[" * 100_000, b'{"format": 1, "choices": 3}', b"\xff", b"NaN"],
)
def test_what_is_kept_may_be_damaged(finished: Path, tmp_path: Path, left: bytes) -> None:
    run = copied(finished, tmp_path, "plain")
    (run / SPACE_FILE).write_bytes(left)
    found = kept(RunFolder.open(run))
    assert found.space is None
    assert f"{run / SPACE_FILE} cannot be read (" in found.remark


@pytest.mark.parametrize("space", [NASBench201(), ElasticResNet()])
def test_what_is_kept_reads_and_draws_as_the_space_does(space: object) -> None:
    import numpy as np

    assert isinstance(space, NASBench201 | ElasticResNet)
    archs = [space.sample(np.random.default_rng(seed)) for seed in range(5)]
    texts = [arch.text for arch in archs]
    held = StoredSpace.of(space).holding(space, texts, texts)
    stored = StoredSpace.from_json(json.loads(held.to_json()))
    assert [stored.architecture(text) for text in texts] == archs
    assert [stored.architecture(text).id for text in texts] == [arch.id for arch in archs]
    assert [stored.graph(arch) for arch in archs] == [space.graph(arch) for arch in archs]


# -- what executes -----------------------------------------------------------------------------

EXECUTES = (
    ("export",), ("specialize",), ("resume", "--local"), ("verify",), ("score", "--local"),
)  # fmt: skip


@pytest.mark.parametrize("command", EXECUTES, ids=lambda c: c[0])
@pytest.mark.parametrize("foreign", ["experiment.py", "run.json"])
def test_a_foreign_experiment_is_refused(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    foreign: str,
) -> None:
    run = copied(finished, tmp_path, "plain")
    mark = hostile(run)
    stat = Path.stat

    def owned_by_another(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result([*found[:4], 4242, *found[5:]]) if path.name == foreign else found

    monkeypatch.setattr(Path, "stat", owned_by_another)
    name, *more = command
    called = raynas(name, run, *more)
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert f"{run / foreign} belongs to another user (uid 4242)" in called.err
    assert "--trust" in called.err
    assert not mark.exists()
    called = raynas(name, run, *more, "--trust")
    assert called.code == 2
    assert "belongs to another" not in called.err
    assert mark.exists()


@pytest.mark.parametrize("command", [name for name, *_ in EXECUTES])
def test_help_says_that_it_executes(command: str) -> None:
    text = " ".join(done(command, "--help").split())
    assert "experiment.py in" in text
    assert "--trust" in text


def test_from_python_too(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(finished, tmp_path, "plain")
    monkeypatch.setattr(os, "geteuid", lambda: 4243)
    with pytest.raises(UserError, match="belongs to another user"):
        reload(RunFolder.open(run))
    assert reload(RunFolder.open(run), trust=True).experiment.name == "plain"


# -- storages that it names --------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Places of the network that were contacted."""
    found: list[str] = []

    def contact(remote: RemoteFolder, *_: object) -> None:
        if remote.uri.startswith("s3:"):  # a lease of another test may still be renewed
            found.append(remote.uri)
        raise OSError("no network")

    monkeypatch.setattr(RemoteFolder, "_patiently", contact)
    return found


@pytest.mark.parametrize("command", ["status", "report", "export-study", "verify"])
def test_a_storage_that_a_folder_names_is_not_asked(
    finished: Path, tmp_path: Path, asked: list[str], command: str
) -> None:
    run = copied(finished, tmp_path, "plain")
    (run / URI_FILE).write_text("s3://of-a-stranger/run?endpoint_override=evil.example")
    more = {"export-study": [tmp_path / "s.db"], "verify": ["--history"]}.get(command, [])
    out = done(command, run, *more)
    assert asked == []
    if command == "status":
        assert "raynas status s3://of-a-stranger/run" in " ".join(out.split())


def test_that_of_the_users_own_working_copy_is_asked(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    uri = "s3://mine/run"
    shutil.copytree(finished / "plain", working_copy(uri))
    (working_copy(uri) / URI_FILE).write_text(uri)
    done("status", working_copy(uri))
    assert asked == [uri]


def test_a_storage_that_cannot_be_read_is_one_line(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path, "plain")
    (run / URI_FILE).write_bytes(b"s3://\xff")
    called = raynas("status", run)
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert "remote.uri cannot be read" in called.err


# -- what reaches the terminal -----------------------------------------------------------------

EVIL = "[/x][red]a[/]:smile:\x1b[2J\x07\x9b31m\u202e"
SPELLED = r"[/x][red]a[/]:smile:\x1b[2J\x07\x9b31m\u202e"


@pytest.fixture
def evil(finished: Path, tmp_path: Path) -> Path:
    """A run whose name, place and storage hold markup and escapes."""
    run = copied(finished, tmp_path / "[red]b[/red] [/y]", "plain")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "name": EVIL}))
    return run


@pytest.mark.parametrize("terminal", [False, True])
def test_data_are_printed_as_data(
    evil: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    out = done("status", evil)
    assert SPELLED in out
    assert str(evil) in out
    assert "\x1b[2J" not in out
    assert not {"\x07", "\x9b", "\u202e"} & set(out)
    assert ("\x1b[1m" in out) == terminal  # the styles are ours
    assert done("report", evil) == f"report: {evil / 'report.html'}\n"


def test_escapes_in_an_error_are_spelled(evil: Path) -> None:
    (evil / "run.json").unlink()
    place = evil.rename(evil.parent / "x\x1b[2J\x9b")
    called = raynas("status", place)
    assert called.code == 2
    assert r"x\x1b[2J\x9b is not a run folder" in called.err
    assert not {"\x1b", "\x9b"} & set(called.err)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_letters_shows_others(
    evil: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    from raynas.cli.main import main

    info = json.loads((evil / "run.json").read_text())
    (evil / "run.json").write_text(json.dumps({**info, "name": "Größe → \udce9 …"}))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["raynas", "status", str(evil)])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding, "strict"))
    main_code = None
    try:
        main()
    except SystemExit as end:
        main_code = end.code
    sys.stdout.flush()
    text = shown.getvalue().decode(encoding)
    assert main_code in (None, 0)
    named = {"ascii": "Gr\\xf6\\xdfe -> \\xe9 ...", "latin-1": "Größe -> \\xe9 ..."}
    assert named.get(encoding, "Größe → \\xe9 …") in text


def test_memory_that_is_exhausted_is_one_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_run: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("raynas.pipeline.results.write_report_of", full)
    called = raynas("report", finished / "plain")
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert called.err.startswith("error: memory is exhausted; ")
