"""The same worlds on a raynas of before the manifests, to see that they find what was wrong there.

    PYTHONPATH=/path/to/an/older/checkout python tests/simulation/store_world_before.py --seeds 3000

Written for revision c4bb21f. Its storage was pyarrow's, whose output stream stores what it has when
it is closed by an interruption: an empty object.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.store_world import (
    TTL,
    Mutex,
    Now,
    Process,
    Rows,
    World,
    decoded,
    encoded,
    joined,
    main,
)


class Before(Now):
    """Its clocks, threads and storage are in the modules themselves."""

    def enter(self, process: Process) -> None:
        """Listings are as new as real storages give them: it fails at once without that."""
        world = process.world
        world.perils = dataclasses.replace(world.perils, old_listing=0.0, blind=False)

    def create(self, uri: str, path: Path) -> None:
        assert self.world is not None
        assert self.world.process is not None
        mine = self.world.process.name
        try:
            super().create(uri, path)
        except self.refused() as error:
            if "holds" in str(error) and self._is_name_of_nobody():
                told = f"{mine} cannot take the name of a run that was never made: {error}"
                self.world.failures.append(AssertionError(told))
            raise

    def _is_name_of_nobody(self) -> bool:
        assert self.world is not None
        return self.world.healed and "run.json" not in self.world.objects

    @property
    def process(self) -> Process:
        assert self.world is not None
        assert self.world.process is not None
        return self.world.process

    @contextlib.contextmanager
    def simulated(self) -> Iterator[None]:
        from raynas.store import files, fragments, lease, reader, remote, run, writer

        clock = SimpleNamespace(
            monotonic=lambda: self.process.monotonic(),
            time=lambda: self.process.monotonic(),
            sleep=lambda seconds: self.process.sleep(seconds),
        )
        with contextlib.ExitStack() as stack:

            def put(target: Any, name: str, new: Any) -> None:
                stack.enter_context(mock.patch.object(target, name, new))

            for module in (files, lease, reader, remote):
                put(module, "time", clock)
            threads = SimpleNamespace(
                Lock=lambda: Mutex(self._at_work()), Event=self._event, Thread=self._thread
            )
            put(lease, "threading", threads)
            put(writer, "threading", threads)
            schema = SimpleNamespace(empty_table=lambda: Rows([]))
            put(writer, "schema_for", lambda _: schema)
            put(writer.Writer, "_table", lambda self, rows: Rows([r["row"](self) for r in rows]))
            put(writer, "_parquet", encoded)
            for module in (writer, reader):
                put(module, "join", joined)
                put(module, "read_fragment", decoded)
            put(remote, "cache_folder", self._cache)
            put(os, "fsync", lambda _: None)
            for module in (files, writer):
                put(module, "sync_folder", lambda _: None)
            for module in (remote, run, writer):
                put(module, "write_whole", self._slowly(lambda path, data: path.write_bytes(data)))
            put(files.Lock, "__init__", self._lock(files.Lock.__init__))
            put(fragments.os, "listdir", self._slowly(os.listdir))
            self._storage(remote.Remote, put)
            yield

    def _at_work(self) -> World:
        assert self.world is not None
        return self.world

    def _event(self) -> Any:
        ended: list[int] = []

        def wait(seconds: float) -> bool:
            self.process.sleep(seconds)
            return bool(ended)

        return SimpleNamespace(wait=wait, set=lambda: ended.append(1), is_set=lambda: bool(ended))

    def _thread(self, target: Any, **_: object) -> Any:
        process = self.process
        return SimpleNamespace(start=lambda: self._at_work().start(process, target))

    def _storage(self, kind: Any, put: Any) -> None:
        def name_of(remote: Any, name: str) -> str:
            below = remote.uri.removeprefix("sim://run").strip("/")
            return f"{below}/{name}".strip("/")

        def write(remote: Any, name: str, data: Any) -> None:
            world, full = self._at_work(), name_of(remote, name)

            def once() -> None:
                try:
                    world.operate("write", full, lambda: world.put(full, bytes(data), False), True)
                except KeyboardInterrupt:
                    if full not in world.objects:
                        world.put(full, b"", False)  # the stream is closed on the way out
                    raise

            remote._patiently(once, f"writing {name}")

        def read(remote: Any, name: str) -> bytes:
            world, full = self._at_work(), name_of(remote, name)
            once = lambda: world.operate("read", full, lambda: world.get(full), False)  # noqa: E731
            return bytes(remote._patiently(once, f"reading {name}"))

        def infos(remote: Any, folder: str) -> dict[str, Any]:
            world, full = self._at_work(), name_of(remote, folder)
            once = lambda: world.operate("list", full, lambda: world.listing(full), False)  # noqa: E731
            found = remote._patiently(once, f"listing {folder}")
            return {
                n: SimpleNamespace(size=len(d), mtime_ns=int(w * 1e9))
                for n, (d, w) in found.items()
            }

        def remove(remote: Any, name: str) -> None:
            world, full = self._at_work(), name_of(remote, name)
            once = lambda: world.operate("remove", full, lambda: world.drop(full), True)  # noqa: E731
            remote._patiently(once, f"removing {name}")

        for name, new in (("write", write), ("read", read), ("_infos", infos), ("remove", remove)):
            put(kind, name, new)

    def rows(self, folder: Any) -> list[str]:
        from raynas.store import reader

        return joined(reader._tables(folder)).rows

    def garbage(self, world: World) -> list[str]:
        return []


if __name__ == "__main__":
    import raynas

    if "--no-readers" in sys.argv:  # they fail so often that what writers do is not seen
        sys.argv.remove("--no-readers")
        Before.readers = False
    print(f"of {raynas.__file__}", json.dumps({"ttl": TTL}))
    main(Before())
