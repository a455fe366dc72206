"""Views of what comes before a search: estimates, checks, simulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raynas.cli.console import short_count
from raynas.core.printable import printable
from raynas.pipeline.live import clock

if TYPE_CHECKING:
    from raynas.apps.doctor import CheckResult
    from raynas.apps.plan import ExperimentPlan
    from raynas.apps.simulate import SimulatedSearch
    from raynas.runners.simulated import WorkerUsage


def show_finding(finding: CheckResult, out: Console) -> None:
    """Show the result of one check.

    Args:
        finding: The result.
        out: The console.
    """
    mark, style = ("ok", "green") if finding.good else ("NOT OK", "bold red")
    line = Text.assemble(
        (f"{mark:<6} ", style), (finding.name, "bold"), f": {printable(finding.found)}"
    )
    out.print(line, soft_wrap=True)
    if not finding.good and finding.hint:
        out.print(f"       hint: {finding.hint}", soft_wrap=True)


def show_plan(plan: ExperimentPlan, out: Console) -> None:
    """Show the estimates for an experiment.

    Args:
        plan: The estimates.
        out: The console.
    """
    share = f"{plan.feasible} of {plan.drawn} drawn at random"
    kept = (
        f"satisfy {', '.join(plan.bounds)}" if plan.bounds else "are feasible: there are no bounds"
    )
    out.print(f"space: {plan.size:,} architectures; {share} {kept}", soft_wrap=True)
    if plan.failed:
        what = f"{plan.failed} of {plan.drawn} cannot be built; most often: {plan.reason}"
        out.print(Text(what, style="yellow"), soft_wrap=True)
    costs = Table(box=None, pad_edge=False)
    for name in ("cost", "least", "median", "most"):
        costs.add_column(name, justify="left" if name == "cost" else "right")
    for name, spread in plan.costs.items():
        unit = " MB" if name == "memory_mb" else ""
        values = (spread.least, spread.median, spread.most)
        label = "memory of a step" if unit else name
        costs.add_row(label, *(f"{short_count(value)}{unit}" for value in values))
    out.print(costs)
    stages = Table(box=None, pad_edge=False)
    for name in ("stage", "trials", "steps", f"hours of one {plan.device}"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for stage in plan.stages:
        hours = "-" if stage.hours is None else f"{stage.hours:.2f}"
        stages.add_row(stage.name, str(stage.trials), f"{stage.steps:.0f}", hours)
    out.print(stages)
    if plan.step_seconds is None:
        out.print("no step was timed, so hours are not estimated")
        return
    out.print(
        f"a step of the median architecture takes {plan.step_seconds:.2f} s here; "
        f"in all {plan.hours or 0:.2f} hours of one {plan.device}, divided by the workers",
        soft_wrap=True,
    )
    if plan.most_workers is not None:
        out.print(
            f"above about {plan.most_workers} workers the driver is the bottleneck", soft_wrap=True
        )


_MOMENTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)


def show_simulation(found: Sequence[SimulatedSearch], price: float | None, out: Console) -> None:
    """Show the anytime curve of a single cluster, then utilisation and cost of each cluster.

    Args:
        found: The simulated searches, at least one.
        price: Price of one hour of one worker; None leaves costs out.
        out: The console.
    """
    if len(found) == 1:
        out.print(_anytime(found[0]))
    out.print(_clusters(found, price))
    for one in found:
        usage = one.usage
        out.print(_account(usage), soft_wrap=True)
        if one.note:
            out.print(f"  ended early: {one.note}", style="yellow", soft_wrap=True)
    best = found[-1].best
    if best and not found[-1].made_up:
        out.print(
            f"best: {printable(best[-1].arch)}  (trial {best[-1].trial})",
            soft_wrap=True,
            markup=False,
        )


def _anytime(one: SimulatedSearch) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("simulated time", "complete", "stopped", "others", _best_of(one)):
        table.add_column(name, justify="right", no_wrap=True)
    for share in _MOMENTS:
        best, ended = one.at(share * one.usage.seconds)
        others = sum(ended.values()) - ended["COMPLETE"] - ended["STOPPED"]
        table.add_row(
            clock(share * one.usage.seconds),
            str(ended["COMPLETE"]),
            str(ended["STOPPED"]),
            str(others),
            f"{best.value:.2f}" if best else "-",
        )
    return table


def _best_of(one: SimulatedSearch) -> str:
    return f"{'simulated' if one.made_up else 'best'} {one.objective.metric}"


def _clusters(found: Sequence[SimulatedSearch], price: float | None) -> Table:
    table = Table(box=None, pad_edge=False)
    best_of = "simulated" if found[0].made_up else "best"
    heads = ("workers", "ended", "trials", best_of, "best after", "useful", "worker-h")
    for name in (*heads, *(["cost"] if price is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        best, usage = (one.best[-1] if one.best else None), one.usage
        hours = usage.total / 3600
        table.add_row(
            str(usage.workers),
            clock(usage.seconds),
            str(len(one.ends)),
            f"{best.value:.2f}" if best else "-",
            clock(best.clock_s) if best else "-",
            f"{usage.utilisation:.1%}",
            f"{hours:,.1f}",
            *([f"{hours * price:,.2f}"] if price is not None else []),
        )
    return table


def _account(usage: WorkerUsage) -> str:
    """Return the shares of the workers' time by use."""
    parts = {
        "useful": usage.useful,
        "lost and repeated": usage.lost,
        "starting": usage.starting,
        "unavailable": usage.down,
        "idle": usage.idle,
    }
    shares = ", ".join(f"{100 * s / usage.total:.1f} % {n}" for n, s in parts.items() if s > 0)
    deaths = f"; {usage.failures} failures, {usage.preemptions} preemptions"
    some = usage.failures + usage.preemptions > 0
    who = "1 worker" if usage.workers == 1 else f"{usage.workers} workers"
    return f"{who}: {shares or 'nothing done'}{deaths if some else ''}"
