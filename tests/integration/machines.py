"""A Ray cluster of several machines on this one: each is a `ray start` with its own address.

Where this process may do so, each machine has a network of its own, with a wire that can be cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from integration.drivers import PATHS, commands, marked

#: on loopback only; a machine that is gone is noticed in seconds
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
    "PYTHONPATH": os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH")])),
}


def no_networks() -> str:
    """Why there can be no networks of our own; empty where there can."""
    if shutil.which("ip") is None:
        return "no program `ip`"
    try:
        with Network() as network:
            network.plug(2)
    except subprocess.CalledProcessError as error:
        return f"no right to make networks: {error.stderr.decode().strip()}"
    return ""


class Network:
    """A bridge, which is address 1 of its net, and machines in namespaces that hang on it."""

    def __init__(self) -> None:
        self._name = f"rn{uuid.uuid4().hex[:6]}"
        self._net = f"10.{200 + os.getpid() % 50}.{uuid.uuid4().int % 250}"
        self._plugged: list[int] = []
        self._do("link", "add", self._name, "type", "bridge")
        self._do("addr", "add", f"{self.address(1)}/24", "dev", self._name)
        self._do("link", "set", self._name, "up")

    def address(self, number: int) -> str:
        return f"{self._net}.{number}"

    def plug(self, number: int) -> Sequence[str]:
        """A new place at the bridge; a command behind these words runs there."""
        place = wire = f"{self._name}-{number}"
        self._do("netns", "add", place)
        self._plugged.append(number)
        self._do("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", place)
        self._do("link", "set", wire, "master", self._name, "up")
        for words in (
            ("addr", "add", f"{self.address(number)}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            self._do("-n", place, *words)
        return "ip", "netns", "exec", place

    def cut(self, number: int, *, mend: bool = False) -> None:
        """Nothing passes to or from that machine; it notices nothing else."""
        self._do("link", "set", f"{self._name}-{number}", "up" if mend else "down")

    @staticmethod
    def _do(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._plugged:
            self._do("netns", "del", f"{self._name}-{number}")
        self._do("link", "del", self._name)


class Machine:
    """A node of the cluster; all its processes bear its mark. ``inside``: words before `ray`;
    ``more``: of its environment."""

    def __init__(
        self, *args: str, ip: str, inside: Sequence[str] = (), more: Mapping[str, str] | None = None
    ) -> None:
        self.ip = ip
        self.mark = f"RAYNAS_MACHINE={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        # short: the paths of sockets are in it
        self.folder = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        self.out = self.folder / "out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen([
                *inside, str(Path(sys.executable).with_name("ray")), "start", "--block", *args,
                f"--node-ip-address={ip}", f"--temp-dir={self.folder}",
                "--object-store-memory=80000000", "--disable-usage-stats",
            ],
            env={**os.environ, **ENVIRONMENT, **(more or {}), name: value}, start_new_session=True,
            stdout=out, stderr=out,
        )  # fmt: skip

    def processes(self) -> list[int]:
        return marked(self.mark)

    def commands(self) -> list[str]:
        return commands(self.mark)

    def until_ready(self, timeout: float = 90) -> None:
        """It joins the cluster a little after it says that it has started."""
        deadline = time.monotonic() + timeout
        while "Ray runtime started" not in (said := self.out.read_text()):
            late = self.process.poll() is not None or time.monotonic() > deadline
            assert not late, f"no machine {self.ip}: {said}"
            time.sleep(0.2)
        time.sleep(2.0)

    def kill(self) -> None:
        """Like a machine whose power is cut: nothing says goodbye."""
        for number in [self.process.pid, *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port(ip: str) -> int:
    with socket.socket() as free:
        free.bind((ip, 0))
        return int(free.getsockname()[1])


class Cluster:
    """A head without CPUs, where drivers join, and ``count`` machines of two CPUs. A context.

    ``network``: gives each machine a place of its own. ``more``: arguments of the head's start.
    """

    def __init__(self, count: int, *more: str, network: Network | None = None) -> None:
        self._network = network
        head = network.address(1) if network else "127.0.0.1"
        port = free_port(head)
        self.address = f"{head}:{port}"
        self.machines: list[Machine] = []
        self._made = 1
        self.head = Machine(
            "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", *more, ip=head
        )
        try:
            self.head.until_ready()
            for _ in range(count):
                self.join()
            for machine in self.machines:
                machine.until_ready()
        except BaseException:
            self.close()
            raise

    def join(self) -> Machine:
        """One more machine; it is there some seconds later."""
        self._made += 1
        ip, inside = f"127.0.0.{self._made}", ()
        if self._network is not None:
            ip, inside = self._network.address(self._made), self._network.plug(self._made)
        machine = Machine(f"--address={self.address}", "--num-cpus=2", ip=ip, inside=inside)
        self.machines.append(machine)
        return machine

    def cut(self, machine: Machine, *, mend: bool = False) -> None:
        """Its wire: the machine works on, but hears and reaches nobody."""
        assert self._network is not None
        self._network.cut(int(machine.ip.rsplit(".", 1)[1]), mend=mend)

    def notice(self, machine: Machine, seconds: int) -> None:
        """What a cloud says before it takes a spot machine back."""
        subprocess.run([
            str(Path(sys.executable).with_name("ray")), "drain-node", "--address", self.address,
            "--node-id", self._node(machine)["NodeID"],
            "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
            "--deadline-remaining-seconds", str(seconds),
        ], env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True)  # fmt: skip

    def given_up(self, machine: Machine) -> bool:
        """Whether Ray believes that it is dead."""
        return not self._node(machine)["Alive"]

    def _node(self, machine: Machine) -> dict[str, Any]:
        """What Ray knows of it."""
        return dict(self.ask(
            f"here = [n for n in ray.nodes() if n['NodeManagerAddress'] == {machine.ip!r}]\n"
            "found = {k: here[0][k] for k in ('NodeID', 'Alive')}"
        ))  # fmt: skip

    def ask(self, question: str) -> Any:
        """What some Python code has ``found``, in another process: this one does not join."""
        ask = (
            f"import json, ray; ray.init({self.address!r}, log_to_driver=False, logging_level=40)\n"
            f"{question}\nprint(json.dumps({{'found': found}}))"
        )
        told = subprocess.run(
            [sys.executable, "-c", ask], env={**os.environ, **ENVIRONMENT},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        (found,) = (line for line in told.stdout.splitlines() if line.startswith("{"))
        return json.loads(found)["found"]  # Ray may say more, of a lost machine

    def kill(self, machine: Machine) -> None:
        self.machines.remove(machine)
        machine.kill()

    def close(self) -> None:
        for machine in (*self.machines, self.head):
            machine.kill()
        self.machines = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Autoscaled:
    """A head without CPUs, and Ray's own autoscaler (as `ray up` starts it), which brings machines
    of these ``types`` (name -> resources, and the most there may be) when something waits for them.

    Its machines are raylets on this one. They go when they had nothing to do for some seconds.
    """

    def __init__(self, folder: Path, **types: tuple[Mapping[str, float], int]) -> None:
        # names that Ray's provider for tests wants
        ip, head, head_type = "127.0.0.1", "f" * 51 + "00000", "ray.head.default"
        self.address = f"{ip}:{free_port(ip)}"
        kinds = {
            name: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most}
            for name, (resources, most) in types.items()
        }
        kinds[head_type] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        lists = ("setup", "head_setup", "worker_setup", "initialization")
        provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
        config = {
            "cluster_name": "fake", "max_workers": 9, "idle_timeout_minutes": 0.1,
            "provider": {
                "type": "external", "module": provider, "launch_multiple": True,
                "gcs_address": self.address, "head_node_id": head, "disable_node_updaters": True,
            },
            "auth": {}, "file_mounts": {}, "cluster_synced_files": [],
            "available_node_types": kinds, "head_node_type": head_type,
            **{f"{name}_commands": [] for name in lists},
            "head_start_ray_commands": [], "worker_start_ray_commands": [],
        }  # fmt: skip
        file = folder / "autoscaler.json"
        file.write_text(json.dumps(config))
        self.head = Machine(
            "--head", f"--port={self.address.split(':')[1]}", "--num-cpus=0",
            "--include-dashboard=false", f"--autoscaling-config={file}", ip=ip,
            more={
                "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": head,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head, "RAY_NODE_TYPE_NAME": head_type,
            },
        )  # fmt: skip
        try:
            self.head.until_ready()
        except BaseException:
            self.head.kill()
            raise

    @property
    def machines(self) -> int:
        """How many there are beside the head."""
        return sum("/raylet\0" in command for command in self.head.commands()) - 1

    def is_empty(self, timeout: float = 60) -> bool:
        """Whether all of them go when there is nothing to do."""
        deadline = time.monotonic() + timeout
        while self.machines and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.machines == 0

    def __enter__(self) -> Autoscaled:
        return self

    def __exit__(self, *_: object) -> None:
        self.head.kill()
