"""What commands print: at 80 columns, and whatever the run looks like."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pyarrow as pa
import pytest
from commands import done, experiment_file
from rich.console import Console

from raynas.cli.console import short_count
from raynas.cli.export_views import show_export, show_scores
from raynas.cli.part_views import show_parts
from raynas.cli.run_views import show_status, watch
from raynas.core import UserError
from raynas.proxies import proxies
from raynas.store import RunFolder
from raynas.training import ExportedNetwork


def printer(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False)


def lines(out: Console) -> list[str]:
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("console")
    file = experiment_file(
        folder / "a_rather_long_name_for_an_experiment.py",
        baselines="(RegularizedEvolution(3, 2),)",
    )
    done("run", file, "--local", "--output", folder / "run")
    return RunFolder.open(folder / "run")


@pytest.mark.parametrize(
    "kind", ["spaces", "data", "evaluators", "proxies", "samplers", "schedulers", "rules"]
)
def test_one_kind_of_parts_with_a_sentence_each(kind: str) -> None:
    out = printer(80)
    show_parts(kind, out)
    found = lines(out)
    assert found[0] == kind
    assert all(len(line) <= 80 for line in found)
    assert not any("``" in line for line in found)
    described = [line for line in found[1:] if not line.startswith("  ")]
    assert all(len(line.split()) > 3 for line in described)


def test_all_parts_are_named() -> None:
    out = printer(200)
    show_parts(None, out)
    text = "\n".join(lines(out))
    for name in ("NASBench201", "ElasticResNet", "Digits", "CIFAR10", "Arrays", "Retrain",
                 "FunctionEvaluator", "TPE", "RegularizedEvolution", "NSGA2", "ASHA"):  # fmt: skip
        assert name in text
    assert text.count("samplers") == 1


def test_every_proxy_is_listed() -> None:
    out = printer(80)
    show_parts("proxies", out)
    shown = [line.split()[0] for line in lines(out)[1:] if not line.startswith("  ")]
    assert shown == [cls.__name__ for cls in proxies().values()]


def test_an_unknown_kind_is_told_the_known() -> None:
    with pytest.raises(UserError, match=r"'sampler'.*did you mean 'samplers'"):
        show_parts("sampler", printer(80))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_state_of_a_run_fits(run: RunFolder, width: int) -> None:
    out = printer(width)
    show_status(run, out)
    found = lines(out)
    assert all(len(line) <= width for line in found)
    assert "".join(found).count(str(run.path)) == 1  # folded, not cut
    if width >= 80:
        assert any(line.startswith("not running; last result") for line in found)
        assert any(line.startswith("random 6/6 ") for line in found)
        assert any(line.startswith("evolution ") for line in found)
        assert "finalists: 4 of 4 trained" in found
        assert sum(",op=" in line for line in found) >= 5


def test_proposals_beyond_a_bound_do_not_count_for_the_budget(tmp_path: Path) -> None:
    file = experiment_file(tmp_path / "toy.py", bounds="(Bound('params', max=60),)")
    done("run", file, "--local", "--output", tmp_path / "run")
    out = printer(80)
    show_status(RunFolder.open(tmp_path / "run"), out)
    (line,) = [line for line in lines(out) if line.startswith("random 6/6 ")]
    _, _, running, complete, stopped, infeasible, failed, _ = line.split()
    assert (running, int(complete) + int(stopped), failed) == ("0", 6, "0")
    assert int(infeasible) > 0


def test_watching_ends_with_ctrl_c(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("raynas.cli.run_views.time.sleep", sleep)
    out = printer(80)
    watch(run, out, 0.7)
    assert looks == [0.7, 0.7]
    assert any("not running" in line for line in lines(out))


def test_watching_fetches_what_is_new(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            raise KeyboardInterrupt

    def refresh(folder: RunFolder) -> RunFolder:
        if len(looks) == 2:
            raise UserError("the storage is away")
        info = dataclasses.replace(folder.info, name=f"look {len(looks)}")
        return dataclasses.replace(folder, info=info)

    monkeypatch.setattr("raynas.cli.run_views.time.sleep", sleep)
    monkeypatch.setattr(RunFolder, "refresh", refresh)
    out = printer(80)
    watch(run, out, 0.7)
    assert any(line.startswith("look 3 ") for line in lines(out))


def test_exports_with_the_difference_that_was_measured() -> None:
    out = printer(20)
    paths = {"architecture": Path("a/architecture.json"), "onnx": Path("a/network.onnx")}
    show_export(ExportedNetwork(paths, {"onnx": 3.21e-7}), out)
    assert lines(out) == [
        "architecture: a/architecture.json",
        "onnx: a/network.onnx  (outputs differ by at most 3.2e-07)",
    ]


def test_what_is_to_be_known_of_an_export_is_printed_as_data() -> None:
    out = printer(20)
    show_export(ExportedNetwork({}, {}, ("logits were not compared: [red]\x1b[2J",)), out)
    assert lines(out) == ["logits were not compared: [red]\\x1b[2J"]


def scores(names: list[str], messages: list[str | None]) -> pa.Table:
    """Rows of long texts, wide numbers and nulls."""
    n = len(messages)
    arch = [f"|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|cell{i}~2|" for i in range(n)]
    columns = {name: [None if m else -1.23456789e-105 * (i + 1) for i, m in enumerate(messages)]
               for name in names if name != "params"}  # fmt: skip
    return pa.table({"arch": arch, "params": [1_234_567] * n, **columns, "message": messages})


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("count", [1, 16])
def test_scores_fit(width: int, count: int) -> None:
    names = ["ensemble", "params", *(f"long_name{i}" for i in range(count - 1))]
    out = printer(width)
    show_scores(scores(names, [None, None, "no score: a reason"]), names, 2, out)
    head, *best, first, count_line, why = lines(out)
    assert all(len(line) <= width for line in (head, *best))
    assert [line.startswith("|nor_con") for line in best] == [True, True]
    assert head.split()[:3] == ["architecture", "params", "ensemble"]
    assert all(line.split()[1] == "1.23M" for line in best)
    assert all(len(line.split()) == len(head.split()) for line in best)
    assert "…" not in head
    assert all(line.split()[2].endswith("e-105") for line in best)
    if width == 200:
        assert len(head.split()) == min(2 + count, 15)
    assert first == f"best by combined rank: {scores(names, [None])['arch'][0].as_py()}"
    assert count_line == "3 architectures; 1 without a score"
    assert why == "  1: no score: a reason"


def test_missing_scores_are_counted_by_reason() -> None:
    out = printer(80)
    messages = ["a" * 100, None, "b", "b", "c", "d", "b"]
    show_scores(scores(["ensemble"], messages), ["ensemble"], 1, out)
    shown = lines(out)
    assert shown[1].split()[-1] == "-"
    assert "7 architectures; 6 without a score" in shown
    assert shown[-3:] == ["  3: b", f"  1: {'a' * 100}", "  1: c"]
    out = printer(80)
    show_scores(scores(["ensemble"], [None]), ["ensemble"], 0, out)
    assert lines(out) == ["1 architecture; 0 without a score"]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1234567, "1.23M"), (1000, "1k"), (4.5e9, "4.5G"),
     (float("nan"), "-")],
)  # fmt: skip
def test_counts_are_short(count: float, shown: str) -> None:
    assert short_count(count) == shown
