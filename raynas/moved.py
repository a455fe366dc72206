"""Modules that have moved: their old names work for one release, with a warning.

Experiment files of raynas 0.1, those kept in the folders of runs among them, import parts by these
names. The table ends with the next release.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "commands.bench": "cli.bench",
    "commands.data": "cli.data",
    "commands.exports": "cli.exports",
    "commands.options": "cli.options",
    "commands.parts": "cli.parts",
    "commands.plans": "cli.plans",
    "commands.runs": "cli.runs",
    "commands.score": "cli.score",
    "commands.streams": "cli.streams",
    "comparison": "apps.compare",
    "comparison.compare": "apps.compare.compare",
    "comparison.methods": "apps.compare.methods",
    "comparison.page": "apps.compare.page",
    "comparison.protocols": "apps.compare.protocols",
    "comparison.sections": "apps.compare.sections",
    "comparison.tasks": "apps.compare.tasks",
    "console": "cli.console",
    "doctor": "apps.doctor",
    "launch": "pipeline.launch",
    "observers": "callbacks",
    "observers.base": "callbacks.base",
    "observers.mlflow": "callbacks.mlflow",
    "observers.prometheus": "callbacks.prometheus",
    "observers.tensorboard": "callbacks.tensorboard",
    "observers.wandb": "callbacks.wandb",
    "outcome": "pipeline.results",
    "planning": "apps.plan",
    "proxies.initialise": "proxies.engine.initialise",
    "proxies.memory": "proxies.engine.memory",
    "proxies.passes": "proxies.engine.passes",
    "proxies.probe": "proxies.engine.probe",
    "reports.described": "analysis.descriptions",
    "reports.equal_cost": "analysis.equal_cost",
    "reports.graphs": "reports.drawings",
    "reports.intervals": "analysis.intervals",
    "reports.luck": "analysis.chance",
    "reports.proxies": "analysis.proxies",
    "reports.ranking": "analysis.ranking",
    "reports.statistics": "analysis.statistics",
    "reports.supernets": "analysis.supernets",
    "reports.tables": "analysis.summary",
    "reports.words": "analysis.formatting",
    "runners.actors": "runners.ray.actors",
    "runners.callbacks": "runners.ray.futures",
    "runners.cluster": "runners.ray.cluster",
    "runners.crew": "runners.ray.actor_pool",
    "runners.deaths": "runners.failures",
    "runners.demand": "runners.ray.autoscaling",
    "runners.devices": "runners.ray.devices",
    "runners.environment": "runners.ray.environment",
    "runners.folders": "runners.job_folders",
    "runners.lanes": "runners.ray.runner",
    "runners.live": "pipeline.live",
    "runners.losses": "runners.ray.lost_nodes",
    "runners.machines": "runners.ray.nodes",
    "runners.meters": "runners.ray.gauges",
    "runners.nodes": "runners.ray.node_checks",
    "runners.printing": "pipeline.printing",
    "runners.server": "runners.ray.server",
    "runners.tune": "runners.ray.tune",
    "runners.usage": "runners.ray.memory",
    "runners.virtual": "runners.simulated",
    "scoring": "apps.score",
    "search.build": "search.builder",
    "search.numbers": "search.trial_numbers",
    "search.order": "search.deterministic",
    "search.source": "search.job_source",
    "session": "pipeline.stages",
    "simulation": "apps.simulate",
    "spaces.elastic": "spaces.elastic_resnet.space",
    "spaces.elastic_net": "spaces.elastic_resnet.network",
    "spaces.elastic_supernet": "spaces.elastic_resnet.supernet",
    "spaces.nasbench201_net": "spaces.nasbench201.network",
    "spaces.nasbench201_supernet": "spaces.nasbench201.supernet",
    "spaces.zen": "spaces.zennas.space",
    "spaces.zen_net": "spaces.zennas.network",
    "specialize": "apps.specialize",
    "stored": "pipeline.history",
    "supernet.agreement": "supernet.evaluation.agreement",
    "supernet.program": "supernet.evaluation.tracing",
    "supernet.races": "supernet.evaluation.racer",
    "supernet.racing": "supernet.evaluation.race",
    "supernet.subnets": "supernet.evaluation.subnets",
    "supernet.together": "supernet.evaluation.batched",
    "verify": "apps.verify",
    "commands": "cli",
}
"""Old name -> new name, both below ``raynas``."""


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their old names, before folders that an update has left empty."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved; None for any other."""
        top, _, name = fullname.partition(".")
        if top != "raynas" or name not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module that takes all names from the module of the new name."""
        old = spec.name
        new = f"raynas.{MOVED[old.partition('.')[2]]}"
        module = ModuleType(old, f"Moved to :mod:`{new}`.")

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            return getattr(importlib.import_module(new), name)

        module.__getattr__ = find  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Warn that the name is old."""
        new = MOVED[module.__name__.partition(".")[2]]
        warnings.warn(
            f"{module.__name__} is now raynas.{new}; the old name ends with the next release",
            FutureWarning,
            stacklevel=2,
        )


def install() -> None:
    """Make old names of modules work in this process, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())
