"""A Ray cluster of several machines on this one: each is a `ray start` with its own address."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from integration.drivers import TESTS, commands, marked

#: on loopback only; a machine that is gone is noticed in seconds
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
    "PYTHONPATH": str(TESTS),
}


class Machine:
    """A node of the cluster; all its processes bear its mark."""

    def __init__(self, *args: str, ip: str) -> None:
        self.ip = ip
        self.mark = f"RAYNAS_MACHINE={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        # short: the paths of sockets are in it
        self.folder = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        self.out = self.folder / "out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen([
                str(Path(sys.executable).with_name("ray")), "start", "--block", *args,
                f"--node-ip-address={ip}", f"--temp-dir={self.folder}",
                "--object-store-memory=80000000", "--disable-usage-stats",
            ],
            env={**os.environ, **ENVIRONMENT, name: value}, start_new_session=True,
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


class Cluster:
    """A head without CPUs, where drivers join, and ``count`` machines of two CPUs. A context.

    ``more``: arguments of the head's `ray start`.
    """

    def __init__(self, count: int, *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.machines: list[Machine] = []
        self._made = 1
        self.head = Machine(
            "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", *more,
            ip="127.0.0.1",
        )  # fmt: skip
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
        machine = Machine(f"--address={self.address}", "--num-cpus=2", ip=f"127.0.0.{self._made}")
        self.machines.append(machine)
        return machine

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
