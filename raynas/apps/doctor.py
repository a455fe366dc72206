"""Checks of a machine or cluster before a search, for `raynas doctor`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from raynas.core import UserError, rng_for
from raynas.experiment import LoadedExperiment
from raynas.pipeline.stages import prepare
from raynas.runners.base import Resources
from raynas.store.files import write_whole
from raynas.store.remote import RemoteFolder, is_uri

if TYPE_CHECKING:
    from raynas.runners.ray.cluster import ClusterRunner
    from raynas.runners.ray.node_checks import NodeCheck
    from raynas.search.context import EvaluationContext

#: speed below which an experiment of many short trials waits for its storage
_SLOW_MB_A_SECOND = 5.0
_BLOCK = 4_000_000
#: seconds for an autoscaler to start a machine and install everything there
_PATIENCE = 900.0


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Name of the check, or of the machine.
        good: True when the check passed.
        found: Text on the state that was found.
        hint: Text on what to do where the check did not pass.
    """

    name: str
    good: bool
    found: str
    hint: str = ""


def examine(
    loaded: LoadedExperiment | None, place: Path | str, address: str | None
) -> Iterator[CheckResult]:
    """Check packages, storage, the experiment and every machine of the cluster.

    Args:
        loaded: An experiment to try on every machine; None for none.
        place: Folder or URI where runs are to be stored.
        address: Address of a Ray cluster to join; None for none.

    Yields:
        The findings, each as soon as its check is over.
    """
    yield _packages()
    yield _storage(place)
    payload = None
    if loaded is not None:
        finding, payload = _experiment(loaded)
        yield finding
    yield from _machines(loaded, payload, address)


def _packages() -> CheckResult:
    """Check that the installed packages are those that raynas needs."""
    from packaging.requirements import Requirement

    wrong = []
    for text in metadata.requires("raynas") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need.name} {have} is not {need.specifier}")
    good = "all required packages are installed"
    return CheckResult(
        "packages", not wrong, "; ".join(wrong) or good, "install raynas again with pip"
    )


def _storage(place: Path | str) -> CheckResult:
    """Write a few megabytes where runs go, read them, and remove them again."""
    name, shown = f".raynas-doctor-{os.getpid()}", str(place)
    data = os.urandom(_BLOCK)
    try:
        began = time.monotonic()
        if is_uri(place):
            remote = RemoteFolder(str(place))
            shown = remote.shown
            remote.write(name, data)
            wrote = time.monotonic()
            same = remote.read(name) == data
            remote.remove(name)
        else:
            folder = Path(place)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
            wrote = time.monotonic()
            same = (folder / name).read_bytes() == data
            (folder / name).unlink()
    except (OSError, UserError) as error:
        return CheckResult(
            "storage",
            False,
            f"{shown}: {error}",
            "make it writable, or give another folder or URI with --storage",
        )
    speed = _BLOCK / 1e6 / max(wrote - began, 1e-6)
    if not same:
        return CheckResult(
            "storage",
            False,
            f"{shown} returned other bytes than were written",
            "give another folder or URI with --storage",
        )
    found = f"{shown} can be written at {speed:.0f} MB/s"
    hint = "use a faster disk, or a bucket in the region of the cluster"
    return CheckResult("storage", speed >= _SLOW_MB_A_SECOND, found, hint)


def _experiment(loaded: LoadedExperiment) -> tuple[CheckResult, EvaluationContext | None]:
    """Check that data, space and evaluator fit together on this machine."""
    try:
        payload = prepare(loaded.experiment)
    except UserError as error:
        return CheckResult("experiment", False, str(error), "see above"), None
    view = payload.view
    images = f"{len(view.train)} training images of shape {view.input_shape}"
    found = f"{images}; data, space and evaluator fit together"
    return CheckResult("experiment", True, found), payload


def _machines(
    loaded: LoadedExperiment | None, payload: EvaluationContext | None, address: str | None
) -> Iterator[CheckResult]:
    """Check every machine: its resources, its versions, and a step of the experiment."""
    from raynas.runners.ray import nodes as machines
    from raynas.runners.ray.node_checks import look_at_nodes
    from raynas.runners.ray.runner import RayRunner

    experiment = loaded.experiment if loaded else None
    runner = RayRunner(
        experiment.resources if experiment else Resources(),
        address=address,
        modules=(loaded.module,) if loaded else (),
    )
    arch = payload.space.sample(rng_for(0, "doctor")) if payload else None
    try:
        runner.open()
        if not machines.with_cpus():
            yield from _first_machine(runner, managed=machines.managed())
        nodes = look_at_nodes(runner, payload, arch)
    except UserError as error:
        yield CheckResult("cluster", False, str(error), "see above")
        return
    finally:
        runner.close()
    yield CheckResult("cluster", True, f"{len(nodes)} machine{'s' * (len(nodes) > 1)}")
    for node in nodes:
        yield from _machine(node)


def _first_machine(runner: ClusterRunner, *, managed: bool) -> Iterator[CheckResult]:
    """Bring up the first machine of a cluster that has only a head node, which drives searches."""
    if not managed:
        hint = "`ray start --address=HEAD:6379` on every machine that is to run trials"
        yield CheckResult("cluster", False, "no machine has a CPU for trials", hint)
        return
    wait = f"waits up to {_PATIENCE / 60:.0f} minutes"
    yield CheckResult(
        "cluster", True, f"no machine is running yet; asking the autoscaler for one ({wait})"
    )
    if not runner.bring_machine(_PATIENCE):
        hint = "see the reason in `ray monitor cluster.yaml` or the autoscaler's log"
        yield CheckResult("cluster", False, "the autoscaler started no machine", hint)


def _machine(node: NodeCheck) -> Iterator[CheckResult]:
    from raynas.store.provenance import Provenance

    gpus = (
        f", {node.gpus:g} GPUs ({', '.join(node.devices) or 'not seen by torch'})"
        if node.gpus
        else ""
    )
    found = f"{node.cpus:g} CPUs{gpus}, {node.memory_gb:.1f} GB for Ray"
    own = dict(Provenance.collect().versions)
    other = [
        f"{name} {node.versions.get(name, 'missing')} instead of {version}"
        for name, version in own.items()
        if node.versions and node.versions.get(name) != version
    ]
    if node.fault:
        hint = "repair that machine, or remove it from the cluster"
        yield CheckResult(node.host, False, f"{found}; {node.fault}", hint)
    elif other:
        hint = "install the versions of constraints.txt on every machine"
        yield CheckResult(node.host, False, f"{found}; {', '.join(other)}", hint)
    elif node.gpus and not node.devices:
        yield CheckResult(
            node.host, False, f"{found}: Ray counts GPUs that torch does not see",
            "install a CUDA build of torch and the driver there",
        )  # fmt: skip
    else:
        yield CheckResult(node.host, True, f"{found}{'; ' * bool(node.smoke)}{node.smoke}")
