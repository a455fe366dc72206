"""A publisher of files on this machine's loopback, which may break off, lie or refuse."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from raynas.data.source import DatasetDownload, DatasetSource, PublishedFile


@dataclass
class Publisher:
    """Files by name, and how they are given out.

    Attributes:
        files: What is sent.
        breaks: For each answer in turn, the bytes of its body after which the connection is
            closed; None sends all. Answers beyond the list are whole.
        ranges: Whether it can begin in the middle of a file.
        status: The answer's status instead of 200 or 206.
        lengths: Whether an answer says how long it is.
        shift: Bytes by which it answers another range than was asked for.
        before: Is called before each answer.
        asked: Each name with the Range that was asked for, in turn.
        sent: Bytes of all bodies.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int | None] = field(default_factory=list)
    ranges: bool = True
    status: int = 0
    lengths: bool = True
    shift: int = 0
    before: Callable[[], None] = lambda: None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def source(self, real: DatasetSource, **other: object) -> DatasetSource:
        """``real`` with these files at this address; ``other``: fields of its download."""
        assert real.download is not None
        files = tuple(self.file(name) for name in self.files)
        changed: DatasetDownload = replace(real.download, files=files, **other)  # type: ignore[arg-type]
        return replace(real, download=changed)

    def file(self, name: str) -> PublishedFile:
        content = self.files[name]
        return PublishedFile(f"{self.url}/{name}", hashlib.md5(content).hexdigest(), len(content))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, publisher: Publisher, *arguments: object) -> None:
        self.publisher = publisher
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        of, name, asked = self.publisher, self.path[1:], self.headers["Range"]
        of.asked.append((name, asked))
        of.before()
        content = of.files.get(name, b"")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and of.ranges else 0
        status = of.status or (404 if name not in of.files else 206 if start else 200)
        if start >= len(content) > 0:
            status = 416
        body = content[start + of.shift :] if status in (200, 206) else b"no"
        sent = body[: of.breaks.pop(0) if of.breaks else None]
        of.sent += len(sent)  # before whoever asked can go on
        self.send_response(status)
        if status == 206:
            first = start + of.shift
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if of.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: whoever asked went away."""


@contextmanager
def publishing(**files: bytes) -> Iterator[Publisher]:
    """A publisher that answers until the end of the block."""
    publisher = Publisher(dict(files))
    server = _Server(("127.0.0.1", 0), partial(_Handler, publisher))
    publisher.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
