"""Runs that a signal, a disk or a limit strikes, without Ray: one line, all rows whole, resumable.

What strikes is put before a certain row, in this process. ``long`` tests do the same to processes.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import Called, done, raynas
from integration.drivers import PATHS, Driver, experiment_file, lines, rows_of, undisturbed
from integration.toy_runs import content

from raynas.pipeline import launch
from raynas.pipeline import results as outcome
from raynas.store import Writer

SETTINGS: dict[str, Any] = {"trials": 6}
ROWS = 24
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The table of the run to which nothing happens."""
    return undisturbed(tmp_path_factory.mktemp("calm"), **SETTINGS)


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take a second; what is in a report is not looked at here."""
    monkeypatch.setattr(
        "raynas.reports.write_report", lambda folder, _space: folder.report.write_text("a page")
    )


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return experiment_file(tmp_path, **SETTINGS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def moments(name: str, count: int, most: int = ROWS) -> list[int]:
    """Row numbers, the same in every session."""
    return sorted(random.Random(name).sample(range(1, most), count))


def strike_before(patch: pytest.MonkeyPatch, row: int, strike: Callable[[], None]) -> None:
    """Have ``strike`` called when ``row`` rows are stored and the next one is to be."""
    real, calls = Writer.append, list[None]()

    def append(writer: Writer, rows: Sequence[Any]) -> None:
        if len(calls) == row:
            strike()
        calls.append(None)
        real(writer, rows)

    patch.setattr(Writer, "append", append)


def signalled(name: str) -> Callable[..., None]:
    return lambda *_, **__: os.kill(os.getpid(), getattr(signal, name))


def one_line(called: Called, code: int, *words: str) -> None:
    assert called.code == code, called
    assert called.err.count("\n") == 1, called.err
    assert called.err.endswith("\n")
    for word in words:
        assert word in called.err, called.err


def deterministic_workers(called: Called, run: Path) -> None:
    one_line(called, 130, f"interrupted; go on with: raynas resume {run}")


def goes_on(run: Path, before: Sequence[dict[str, Any]], calm: list[Any]) -> None:
    """What was stored stays as it was, and the rest comes to the same as in a calm run."""
    done("resume", run, "--local")
    rows = rows_of(run)
    assert all(row in rows for row in before)
    assert content(rows) == calm


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "row"), [*zip(SIGNALS, moments("signals", len(SIGNALS)), strict=True)]
)
def test_a_signal_while_it_searches(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch, name: str, row: int
) -> None:
    with monkeypatch.context() as patch:
        strike_before(patch, row, signalled(name))
        called = raynas("run", toy, "--local", "--output", run)
    deterministic_workers(called, run)
    assert "stopping: results are stored" in called.out
    assert (run / "report.html").exists()
    before = rows_of(run)
    assert len(before) in (row, row + 1)
    goes_on(run, before, calm)


@pytest.mark.parametrize(
    ("owner", "function", "name"),
    [
        (launch, "next_session", "SIGHUP"),
        (launch, "keep_space", "SIGTERM"),
        (launch, "finish", "SIGHUP"),
        (outcome, "save_best", "SIGINT"),
        (Writer, "_merge", "SIGTERM"),
    ],
)
def test_a_signal_before_and_after_the_search(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch,
    owner: Any, function: str, name: str,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, signalled(name))
        called = raynas("run", toy, "--local", "--output", run)
    deterministic_workers(called, run)
    goes_on(run, rows_of(run), calm)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_before_there_is_a_run(
    toy: Path, run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(launch, "prepare", signalled(name))
    one_line(raynas("run", toy, "--local", "--output", run), 130, "interrupted")
    assert not run.exists()


def test_a_second_signal_ends_it_at_once(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        strike_before(patch, 5, twice)
        deterministic_workers(raynas("run", toy, "--local", "--output", run), run)
    assert not (run / "report.html").exists()
    goes_on(run, rows_of(run), calm)


def test_a_closed_terminal_may_say_so_more_than_once(
    toy: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)

    strike_before(monkeypatch, 5, twice)
    deterministic_workers(raynas("run", toy, "--local", "--output", run), run)
    assert (run / "report.html").exists()


@pytest.mark.parametrize("name", SIGNALS)
def test_what_nohup_ignores_stays_ignored(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        strike_before(monkeypatch, 5, signalled(name))
        assert raynas("run", toy, "--local", "--output", run).code == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert content(rows_of(run)) == calm


def test_signals_are_left_as_they_were(toy: Path, run: Path) -> None:
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    done("run", toy, "--local", "--output", run)
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before


def as_process(*arguments: object, before: Sequence[str] = (), **more: Any) -> Called:
    """``raynas ARGUMENTS`` as a process; ``before``: words in front of the command."""
    paths = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [*before, sys.executable, "-m", "raynas.cli.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", **more.pop("env", {})}, **more,
    )  # fmt: skip
    return Called(ended.returncode, ended.stdout, ended.stderr)


#: runs a command, its output into a pipe that is closed after so many lines; exits as it does
_UNTIL = """
import subprocess, sys
command = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
for _ in range(int(sys.argv[1])):
    command.stdout.readline()
command.stdout.close()
sys.exit(command.wait())
"""


def read(count: int) -> list[str]:
    """Words before a command of whose output so many lines are read, as by `| head`."""
    return [sys.executable, "-c", _UNTIL, str(count)]


def test_a_run_whose_output_nobody_reads_goes_on(toy: Path, run: Path, calm: list[Any]) -> None:
    """As with `raynas run ... | head -1`: a search is worth more than what it prints."""
    called = as_process("run", toy, "--local", "--output", run, before=read(0))
    assert (called.code, called.err) == (0, "")
    assert content(rows_of(run)) == calm
    assert (run / "report.html").exists()


@pytest.mark.long
@pytest.mark.parametrize("count", [0, 1])
def test_commands_whose_output_nobody_reads(
    toy: Path, run: Path, tmp_path: Path, count: int
) -> None:
    done("run", toy, "--local", "--output", run)
    for command in (
        ["status", run], ["list"], ["--help"], ["run", "--help"], ["report", run], ["--version"],
        ["plan", toy, "--no-probe"], ["simulate", toy, "--step-seconds", "1"],
        ["verify", run, "--history"],
    ):  # fmt: skip
        called = as_process(*command, before=read(count), cwd=tmp_path)
        assert (called.code, called.err) == (0, ""), command


@pytest.mark.long
@pytest.mark.parametrize("name", [*SIGNALS, "SIGPIPE"])
@pytest.mark.parametrize("row", moments("processes", 3))
def test_a_signal_to_a_process(
    tmp_path: Path, run: Path, calm: list[Any], name: str, row: int
) -> None:
    file = experiment_file(tmp_path, seconds=0.05, **SETTINGS)
    with Driver("run", file, "--local", "--output", run, cwd=tmp_path) as driver:
        driver.until(lambda: len(lines(tmp_path / "log")) >= row)
        driver.process.send_signal(getattr(signal, name))
        code = driver.wait(60)
    told = driver.err.read_text()
    if name == "SIGPIPE":  # which Python ignores
        assert (code, told) == (0, "")
    else:
        deterministic_workers(Called(code, driver.out.read_text(), told), run)
    goes_on(run, rows_of(run), calm)


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", moments("deleted", 2))
def test_a_folder_that_is_deleted(
    toy: Path, run: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    strike_before(monkeypatch, row, lambda: shutil.rmtree(run))
    called = raynas("run", toy, "--local", "--output", run)
    one_line(called, 2, f"run folder {run} was removed or moved while it was being written")
    assert not list(run.rglob("*.parquet"))
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("row", "again"), [*zip(moments("moved", 2), [False, True], strict=True)])
def test_a_folder_that_is_moved(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch, row: int, again: bool
) -> None:
    """``again``: another folder is in its place."""
    away = run.with_name("away")

    def move() -> None:
        run.rename(away)
        if again:
            shutil.copytree(away, run)

    with monkeypatch.context() as patch:
        strike_before(patch, row, move)
        called = raynas("run", toy, "--local", "--output", run)
    one_line(called, 2, f"run folder {run} was removed or moved", "raynas resume FOLDER")
    before = rows_of(away)
    assert len(before) == row
    goes_on(away, before, calm)


def test_a_folder_that_is_deleted_when_all_is_stored(
    toy: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Writer.check

    def late(writer: Writer) -> None:
        shutil.rmtree(run)
        check(writer)

    monkeypatch.setattr(Writer, "check", late)
    one_line(raynas("run", toy, "--local", "--output", run), 2, "was removed or moved")
    assert not run.exists()


def test_a_working_copy_that_is_deleted(
    toy: Path, tmp_path: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself lives elsewhere, whole."""
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    uri = f"file://{tmp_path}/storage/run"
    with monkeypatch.context() as patch:
        strike_before(patch, 7, lambda: shutil.rmtree(tmp_path / "cache"))
        called = raynas("run", toy, "--local", "--output", uri)
    one_line(called, 2, "was removed or moved", f"raynas resume {uri}")
    done("resume", uri, "--local")
    (copy,) = (p.parent for p in (tmp_path / "cache").rglob("run.json"))
    assert content(rows_of(copy)) == calm


def _without_rights() -> list[str]:
    """Words before a command that may read all and write only what its user may.

    For root: as the user `nobody`, who may read Python's files.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no program `setpriv`")
    number, may = "65534", "-all,+dac_read_search"
    return [
        "setpriv", "--reuid", number, "--regid", number, "--clear-groups",
        "--inh-caps", may, "--ambient-caps", may, "--bounding-set", may,
    ]  # fmt: skip


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that everybody may write, below others that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="raynas-test-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


#: nobody can make it
NO_HOME = {"HOME": "/nonexistent/nobody"}


def test_a_user_without_a_home_folder(common: Path, calm: list[Any]) -> None:
    """As in a container that is not root: nothing of the home folder is needed, nothing said."""
    before, env = _without_rights(), NO_HOME
    common.chmod(0o755)
    file = experiment_file(common, **SETTINGS)
    called = as_process("run", file, "--local", before=before, env=env, cwd=common)
    if os.geteuid() == 0:
        one_line(called, 2, "run folder", "cannot be written: Permission denied", "--output")
        common.chmod(0o777)
        called = as_process("run", file, "--local", before=before, env=env, cwd=common)
    assert (called.code, called.err) == (0, "")
    assert content(rows_of(common / "runs" / "toy")) == calm


@pytest.mark.long
@pytest.mark.parametrize("row", moments("sealed", 3))
def test_a_folder_that_may_not_be_written_any_more(common: Path, calm: list[Any], row: int) -> None:
    before, env = _without_rights(), NO_HOME
    run = common / "run"
    file = experiment_file(common, seconds=0.05, **SETTINGS)
    command = ("run", file, "--local", "--output", run)
    with Driver(*command, cwd=common, before=before, **env) as driver:
        driver.until(lambda: len(lines(common / "log")) >= row)
        folders = [run, *(p for p in run.rglob("*") if p.is_dir())]
        for folder in folders:
            folder.chmod(0o500)
        code = driver.wait(60)
    try:
        called = Called(code, "", driver.err.read_text())
        one_line(called, 2, "Permission denied", "resume")
        stored = rows_of(run)
        assert len(stored) >= row - 1
        again = as_process("resume", run, "--local", before=before, env=env)
        one_line(again, 2, "Permission denied (EACCES)", f"raynas resume {run}")
        one_line(as_process("report", run, before=before, env=env), 2, "Permission denied")
        assert as_process("status", run, before=before, env=env).code == 0
        assert rows_of(run) == stored
    finally:
        for folder in folders:
            folder.chmod(0o700)
    resumed = as_process("resume", run, "--local", before=before, env=env)
    assert (resumed.code, resumed.err) == (0, "")
    rows = rows_of(run)
    assert all(row in rows for row in stored)
    assert content(rows) == calm


# -- disks and limits --------------------------------------------------------------------------


def limited(kind: int, most: int) -> Callable[[], None]:
    """Sets a limit of this process; the fixture ``_limits`` puts it back."""
    return lambda: resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def lift(kind: int) -> None:
    most = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most, most))


@pytest.fixture
def _limits() -> Any:
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    before = [resource.getrlimit(kind) for kind in kinds]
    yield
    for kind, pair in zip(kinds, before, strict=True):
        resource.setrlimit(kind, pair)


def ended_by(called: Called, run: Path) -> None:
    one_line(called, 2, f"raynas resume {run}")
    assert "every row stored before is safe" in called.err


def run_into(
    limit: int, soft: int, monkeypatch: pytest.MonkeyPatch, row: int, toy: Path, run: Path
) -> Called:
    """A run that meets a limit of the system before the row; the limit is lifted afterwards."""
    with monkeypatch.context() as patch:
        strike_before(patch, row, limited(limit, soft))
        called = raynas("run", toy, "--local", "--output", run)
    lift(limit)
    ended_by(called, run)
    return called


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("row", moments("small files", 2))
def test_files_may_not_grow(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    """``ulimit -f``; quotas answer so, too."""
    # less than a fragment
    called = run_into(resource.RLIMIT_FSIZE, 3000, monkeypatch, row, toy, run)
    assert "File too large (EFBIG)" in called.err
    before = rows_of(run)
    assert len(before) == row
    goes_on(run, before, calm)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("row", moments("files", 2))
def test_no_file_can_be_opened_any_more(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    called = run_into(resource.RLIMIT_NOFILE, 3, monkeypatch, row, toy, run)
    assert "Too many open files (EMFILE)" in called.err
    assert "ulimit -n" in called.err
    before = rows_of(run)
    assert len(before) == row
    goes_on(run, before, calm)


@pytest.mark.parametrize(
    ("number", "named", "fault"),
    [
        (errno.ENOSPC, False, True), (errno.EFBIG, False, True), (errno.EMFILE, False, True),
        (errno.EACCES, True, True), (errno.EACCES, False, False), (errno.ENOENT, False, False),
    ],
)  # fmt: skip
def test_a_trial_is_not_blamed_for_the_machine(
    toy: Path, run: Path, calm: list[Any], monkeypatch: pytest.MonkeyPatch,
    number: int, named: bool, fault: bool,
) -> None:  # fmt: skip
    """``named``: the error names a file in the trial's own folder."""
    real, calls = Path.replace, list[None]()

    def replace(path: Path, to: Path) -> Path:
        calls.extend([None] if to.name == "step" else [])
        if to.name == "step" and len(calls) == 7:
            raise OSError(number, os.strerror(number), str(to) if named else "/data/elsewhere")
        return real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        called = raynas("run", toy, "--local", "--output", run)
    states = [row["state"] for row in rows_of(run)]
    if not fault:
        assert (called.code, called.err) == (0, "")
        assert states.count("FAILED") == 1
        return
    one_line(called, 2, os.strerror(number), "continue with `raynas resume`")
    assert "FAILED" not in states
    goes_on(run, rows_of(run), calm)


def few_files(count: int) -> list[str]:
    """Words before a command that may have so many files open."""
    return ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh"]


@pytest.mark.long
def test_64_files_are_enough(toy: Path, run: Path, calm: list[Any]) -> None:
    called = as_process("run", toy, "--local", "--output", run, before=few_files(64))
    assert (called.code, called.err) == (0, "")
    assert content(rows_of(run)) == calm


@pytest.mark.long
@pytest.mark.parametrize("count", [8, 9, 10, 11, 12, 14, 16])
def test_files_that_are_far_too_few(toy: Path, run: Path, calm: list[Any], count: int) -> None:
    called = as_process("run", toy, "--local", "--output", run, before=few_files(count))
    if called.code != 0:
        one_line(called, 2, "Too many open files", "ulimit -n")
    if (run / "run.json").exists():
        goes_on(run, rows_of(run), calm)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system in memory, and how to change its size."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no program `mount`: {error}")
    if made.returncode:
        pytest.skip(f"no right to mount a disk: {made.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    try:
        yield place, resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.long
@pytest.mark.parametrize("size", ["100k", "200k", "300k", "450k"])
def test_a_disk_that_is_full(toy: Path, small_disk: Any, calm: list[Any], size: str) -> None:
    """Of these sizes some are full in the search, some at the report."""
    place, resize = small_disk
    resize(size)
    run = place / "run"
    called = as_process("run", toy, "--local", "--output", run)
    one_line(called, 2, "No space left on device")
    before = rows_of(run)
    assert done("status", run)
    resize("20m")
    goes_on(run, before, calm)
    assert (run / "report.html").exists()


@pytest.mark.long
def test_output_to_a_full_disk(toy: Path, run: Path, calm: list[Any]) -> None:
    """The search goes on; what cannot be printed at its end is an error."""
    to_full = ["sh", "-c", 'exec "$@" > /dev/full', "sh"]
    called = as_process("run", toy, "--local", "--output", run, before=to_full)
    one_line(called, 2, "No space left on device")
    assert content(rows_of(run)) == calm
    for command in (["status", run], ["list"], ["--version"], ["--help"]):
        one_line(as_process(*command, before=to_full), 2, "No space left on device")


# -- Ray ---------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.ray
def test_a_folder_that_ray_may_not_write(common: Path, calm: list[Any]) -> None:
    before, run = _without_rights(), common / "run"
    sealed = common / "sealed"
    sealed.mkdir(mode=0o555)
    home = common / "home"
    home.mkdir()
    home.chmod(0o777)
    file = experiment_file(common, **SETTINGS)
    command = ("run", file, "--output", run)
    env = {"HOME": str(home)}
    with Driver(*command, cwd=common, before=before, RAY_TMPDIR=str(sealed), **env) as driver:
        code = driver.wait(120)
        called = Called(code, driver.out.read_text(), driver.err.read_text())
        one_line(called, 2, "Ray does not start on this machine", str(sealed), "set RAY_TMPDIR")
        assert driver.all_gone(30), driver.commands()
    assert rows_of(run) == []
    resumed = as_process("resume", run, "--local", before=before, env=env)
    assert (resumed.code, resumed.err) == (0, "")
    assert content(rows_of(run)) == calm


@pytest.mark.long
@pytest.mark.ray
def test_ray_for_a_user_without_a_home_folder(common: Path, calm: list[Any]) -> None:
    """Ray would keep its token there."""
    before, run = _without_rights(), common / "run"
    if not before:
        pytest.skip("has no folder in which nobody may write")
    file = experiment_file(common, **SETTINGS)
    env = {"HOME": "/nonexistent", "RAY_TMPDIR": str(common)}
    command = ("run", file, "--output", run)
    with Driver(*command, cwd=common, before=before, **env) as driver:
        assert driver.wait(120) == 0, driver.err.read_text()
        assert driver.err.read_text() == ""
        assert driver.all_gone(30), driver.commands()
    assert content(rows_of(run)) == calm


@pytest.mark.long
@pytest.mark.ray
def test_64_files_are_enough_for_ray(toy: Path, run: Path, tmp_path: Path, calm: list[Any]) -> None:
    command = ("run", toy, "--output", run)
    with Driver(*command, cwd=tmp_path, before=few_files(64)) as driver:
        assert driver.wait(120) == 0, driver.err.read_text()
        assert driver.err.read_text() == ""
        assert driver.all_gone(30), driver.commands()
    assert content(rows_of(run)) == calm
