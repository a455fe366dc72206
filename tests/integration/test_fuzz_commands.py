"""Every command with plausible and hostile arguments: 0, 2 or 3, one line, never a traceback.

Commands, their arguments and options are read from the command line itself, so a new one is here
as soon as it is there. Nothing starts Ray or leaves this machine.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main
from commands import done, experiment_file, raynas
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raynas.cli.main import app

pytestmark = pytest.mark.usefixtures("undrawn")

_EXAMPLES, _QUICK = 200, 4
_SECONDS = 120
"""An example that takes longer fails: it does more work than a fuzz should ask for (``WORK``)."""

HOSTILE = [
    "", " ", ".", "..", "../x", "/", "//", "~", "~nobody/x", "-", "--", "-1", "0", "nan", "inf",
    "-inf", "1e308", "1e999", "-1e-400", "9" * 30, "9" * 5000, "0x10", "1_0", "1,2", ",", "=",
    "a=", "=b", "a=b=c", "[/x]", "[red]x[/red]", "[link=file:///x]y", "{0}", "{}", "%s", "%(x)s",
    "\\", "\t", "\n", "a\nb", "\x1b[31mred", "\x07", "\x9b2J", "\u202eabc", "\u2028", "é", "数",
    "🙂" * 50, "\udc80", "\udcff/x", "a" * 300, "a/" * 3000, "true", "None", "null", "[]",
    "{[1]}", "[" * 200, "lambda: 0", "__import__('os')", "*", "?", "'", '"', "&", "|", "$HOME", "#",
    "foo://x", "://", "foo://", "http://127.0.0.1:1/x", "file://", "file:///missing/run",
    "file://host/x", "s3://", "s3:///x", "s3://?x=1", "s3://bucket/x?unknown=1", "gs://", "az://",
    "abfss://", "hdfs://", "hdfs://127.0.0.1:1/x", "memory://x", "mem://x",
]  # fmt: skip

#: what is there: a file and a finished run of it, other files and folders
THINGS = [
    "{toy}", "{run}", "{run}/", "{run}/run.json", "{run}/experiment.py", "{run}/results",
    "{folder}", "{file}", "{folder}/new", "{file}/below", "{folder}/missing.py", "{folder}/new.csv",
    "{folder}/new.parquet", "{folder}/new.db", "{broken}", "file://{run}", "file://{folder}/new",
]  # fmt: skip

NUMBERS = ["1", "2", "3", "0.5", "1.5", "10", "1e3", "+2", "0", "-1"]

SETTINGS = [
    "budget.trials",
    "budget.hours",
    "seed",
    "name",
    "deterministic_workers",
    "evaluator",
    "sampler",
    "scheduler.factor",
    "scheduler.min_step",
    "finalists.top",
    "finalists.seeds",
    "space.merge",
    "resources.cpus",
    "resources.gpus",
    "resources.memory",
    "resources.concurrent",
    "resources.retries",
    "resources.patience",
    "resources.threads",
    "checkpoints",
    "bounds",
    "objectives",
    "ranking_check",
    "truth",
    "screen",
    "smoke",
    "baselines",
    "data",
    "data.name",
    "evaluator.fault",
    "evaluator.log",
    "evaluator._view",
    "evaluator.__class__",
    "budget",
    "budget.trails",
    "",
    ".",
    "evaluator.final",
    "space.depth.x",
    "objectives.0.metric",
    "sampler.name",
]

#: plausible values by the name of the parameter; any parameter gets values of its type, too
NAMED: dict[str, list[str]] = {
    "architectures": ["x=0,y=1,op=a", "x=0,y=1,op=b", "x=9,y=1,op=a", "x=0", "x=0,y=1,op=[/x]"],
    "proxies": ["params", "naswot", "synflow,params", "params,params", "nowhere", "zico"],
    "data": ["digits", "toy", "nowhere", "cifar10"],
    "kind": ["spaces", "rules", "space", "proxies"],
    "formats": ["safetensors", "torch", "safetensors,torch", "pickle", "torch,torch"],
    "callbacks": ["wandb", "nowhere", ","],
    "observe": ["tensorboard", "mlflow", "nowhere", "tensorboard,tensorboard"],
    "trials": ["+1", "+2", "2", "+0", "+-1", "+1e3", "+٣", "+²", "+" + "9" * 5000],
    "most": ["params=1e9", "params=1", "macs=", "val_accuracy=3", "latency_ms=0", "params=nan"],
    "least": ["params=1", "params=1e9", "=1", "nowhere=1"],
    "device": ["cpu", "cuda", "cuda:99", "meta", "mps"],
    "workers": ["1", "2", "1,3", "2,2", "0", "1,x", "²"],
    "methods": ["random", "nowhere", "random,random"],
    "protocols": ["published", "nowhere"],
    "datasets": ["cifar10", "nowhere"],
    "address": [
        "auto",
        "127.0.0.1:1",
        "\udc80:80",
        "a" * 300 + ":80",
        "ray://x:1",
        "[::1]:1",
        ":80",
    ],
    "set_": [],
}

#: what says how much work is to be done: a large number is a long time, which is no fault
WORK = {
    "sample", "random", "workers", "jobs", "seeds", "published_seeds", "probe", "trials", "top",
    "batch", "hours", "failure_rate", "preempt_rate", "count",
}  # fmt: skip
_LARGE = re.compile(r"[+-]?[\d.]*(\d{3}|e\d|inf)", re.IGNORECASE)

#: always given where there is such an option, so that an example takes milliseconds
ALWAYS = {"local": ["--local"]}
DEFAULTS = {
    "random": "2", "sample": "5", "jobs": "1", "seeds": "1", "published_seeds": "1",
    "protocols": "trainings", "methods": "random", "datasets": "cifar10",
}  # fmt: skip


def commands() -> dict[str, Any]:
    """All commands by what is typed for them."""
    found: dict[str, Any] = {"": typer.main.get_command(app)}
    left = [""]
    while left:
        name = left.pop()
        for inner, command in getattr(found[name], "commands", {}).items():
            found[f"{name} {inner}".strip()] = command
            left.append(f"{name} {inner}".strip())
    return found


COMMANDS = commands()


def is_argument(param: Any) -> bool:
    return param.param_type_name == "argument"


def kind_of(param: Any) -> str:
    """The type of its values, in words; where typer keeps it depends on its version."""
    typed = getattr(param, "type_descriptor", None)
    return f"{getattr(param, 'type', '')} {getattr(typed, 'annotation', '')}".lower()


def values(param: Any) -> st.SearchStrategy[str]:
    """What may be given for a parameter: what fits its type or name, and what does not."""
    name, kind = param.name, kind_of(param)
    pools = [HOSTILE]
    if name == "set_":
        texts = [*NUMBERS, "none", "true", *HOSTILE]
        pairs = st.builds("{}={}".format, st.sampled_from(SETTINGS), st.sampled_from(texts))
        return st.one_of(pairs, pairs, st.sampled_from(HOSTILE))
    if name in NAMED:
        pools += [NAMED[name]] * 2
    if "int" in kind or "float" in kind:
        pools += [NUMBERS] * 2
    else:
        pools += [THINGS] * (1 if name in NAMED else 2)
    found = st.one_of(*(st.sampled_from(pool) for pool in pools))
    if name in WORK:
        found = found.filter(lambda text: not _LARGE.search(text))
    return found


@st.composite
def calls(draw: st.DrawFn, name: str) -> list[str]:
    """The words of one call of a command."""
    options, arguments, given = list[str](), list[str](), set[str]()
    params = [p for p in COMMANDS[name].params if p.name != "help"]
    chosen = [p for p in params if not is_argument(p)]
    for param in draw(st.lists(st.sampled_from(chosen), max_size=3)) if chosen else []:
        given.add(param.name)
        word = draw(st.sampled_from([*param.opts, *param.secondary_opts]))
        options += [word] if param.is_flag else [word, draw(values(param))]
    for param in params:
        if param.name in ALWAYS:
            options += ALWAYS[param.name]
        elif param.name in DEFAULTS and param.name not in given:
            options += [param.opts[0], DEFAULTS[param.name]]
        elif is_argument(param):
            most = 1 if param.nargs == 1 else 2
            least = 1 if param.required and draw(st.integers(0, 20)) else 0
            arguments += draw(st.lists(values(param), min_size=least, max_size=most))
    words = [*options, *(["--"] if draw(st.booleans()) else []), *arguments]
    return [*name.split(), *words]


@dataclass(frozen=True)
class Place:
    """A folder with what commands are called on, as it was before every call."""

    template: Path
    folder: Path

    def fresh(self) -> Mapping[str, Path]:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)
        names = {"toy": "toy.py", "run": "run", "folder": "empty", "file": "file", "broken": "b.py"}
        return {name: self.folder / path for name, path in names.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "template"
    file = experiment_file(
        folder / "toy.py", space="ToySpace(depth=2)", evaluator="Curves(max_step=2)",
        budget="Budget(trials=3)", finalists="Finalists(top=1, seeds=1)",
    )  # fmt: skip
    done("run", file, "--local", "--output", folder / "run")
    shutil.rmtree(folder / "run" / "figures")
    (folder / "empty").mkdir()
    (folder / "file").write_text("text")
    (folder / "b.py").write_text("def experiment(:\n")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAYNAS_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("RAYNAS_STORAGE", raising=False)
    return Place(template, tmp_path / "place")


class Outside(AssertionError):
    """A command went beyond this machine."""


@pytest.fixture(autouse=True)
def _on_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No Ray, no address that is not of this machine; watching ends at once."""
    import ray

    tried = list[str]()
    connect, find = socket.socket.connect, socket.getaddrinfo

    def is_here(host: Any) -> bool:
        return host in ("127.0.0.1", "::1", "localhost", "", None)

    def connected(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not is_here(address[0]):
            tried.append(str(address))
            raise OSError("no network in this test")
        connect(self, address)

    def found(host: Any, *more: Any, **options: Any) -> Any:
        if not is_here(host):
            host.encode("idna")  # which fails for what is no name
            raise socket.gaierror("no network in this test")
        return find(host, *more, **options)

    def no_ray(*_: Any, **__: Any) -> None:
        raise ConnectionError("no Ray in this test")

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(ray, "init", no_ray)
    stopped = SimpleNamespace(**{**vars(time), "sleep": stop})
    monkeypatch.setattr("raynas.cli.run_views.time", stopped)
    yield
    assert not tried


@pytest.fixture
def _quick_report(monkeypatch: pytest.MonkeyPatch, template: Path) -> None:
    """Figures take a second, the demonstration a minute: other tests have them."""
    monkeypatch.setattr("raynas.apps.new_experiment.quickstart_file", lambda: template / "toy.py")
    monkeypatch.setattr(
        "raynas.reports.write_report", lambda folder, _space: folder.report.write_text("a page")
    )


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")


def too_long(_number: int, _frame: object) -> None:
    raise TimeoutError(f"longer than {_SECONDS} s: too much work for a fuzz, see WORK")


def check(place: Place, words: list[str]) -> None:
    """Call the command. It ends well, or with one line that says what is wrong."""
    things = place.fresh()
    for name, path in things.items():
        words = [word.replace(f"{{{name}}}", str(path)) for word in words]
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(_SECONDS)
    try:
        called = raynas(*words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert called.code in (0, 2, 3), (words, called)
    assert not _CONTROLS.search(called.out + called.err), (words, called)
    if called.code == 2:
        assert called.err.startswith("error: "), (words, called)
    assert called.err.count("\n") == (called.code == 2 or bool(called.err)), (words, called)


def fuzz(place: Place, name: str, examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(calls(name))
    def example(words: list[str]) -> None:
        check(place, words)

    example()


def test_there_are_all_commands() -> None:
    shown = done("--help")
    for name in COMMANDS:
        for word in name.split():
            assert word in shown or word in done(name.split()[0], "--help")
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(
    "words",
    [
        ["export-study", "{run}", "{file}/below"],
        ["export-study", "{run}", "a" * 300],
        ["run", "--local", "--output", "a" * 300, "{toy}"],
        ["plan", "a" * 300],
        ["plan", "{file}/below.py"],
        ["status", "a/" * 3000],
        ["doctor", "--address", "\udc80:80"],
        ["doctor", "--address", "127.0.0.1:99999"],
        ["doctor", "--address", "127.0.0.1:\N{SUPERSCRIPT TWO}"],
        ["resume", "--local", "--trials", "+\N{SUPERSCRIPT TWO}", "{run}"],
        ["resume", "--local", "--trials", "+" + "9" * 5000, "{run}"],
        ["simulate", "--step-seconds", "1", "--workers", "\N{SUPERSCRIPT TWO}", "{toy}"],
        ["simulate", "--step-seconds", "1", "--workers", "9" * 5000, "{toy}"],
    ],
)
def test_calls_that_once_ended_in_a_traceback(place: Place, words: list[str]) -> None:
    check(place, words)


@pytest.mark.usefixtures("_quick_report")
@pytest.mark.parametrize("name", COMMANDS)
def test_some_calls(place: Place, name: str) -> None:
    fuzz(place, name, _QUICK)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_quick_report")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "report"])
def test_many_calls(place: Place, name: str) -> None:
    fuzz(place, name, _EXAMPLES)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_reports(place: Place) -> None:
    fuzz(place, "report", _EXAMPLES)
