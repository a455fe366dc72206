"""An S3-compatible server in this process that fails, is slow, and has a clock of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote


@dataclass
class Weather:
    """How bad the server is: shares of requests that fail, and that are late."""

    failing: float = 0.0
    slow: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    failed: int = 0
    asked: int = 0
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    """moto looks whether an object is there, then stores it: two requests could both find none."""


class _Faulty:
    """A WSGI application before the server's own."""

    def __init__(self, app: Callable[..., Iterable[bytes]], weather: Weather) -> None:
        self._app, self._weather = app, weather

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        weather = self._weather
        weather.asked += 1
        if weather.rng.random() < weather.slow:
            time.sleep(0.2)
        if weather.rng.random() < weather.failing:
            weather.failed += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Type", "text/plain")])
            return [b"<Error><Code>SlowDown</Code></Error>"]
        with weather.one_at_a_time:
            return list(self._app(environ, start))


@dataclass(frozen=True)
class Server:
    """``uri``: of a run, with RUN in place of its name."""

    uri: str
    weather: Weather

    def run(self, name: str) -> str:
        """The URI of a run in a bucket that is there."""
        from pyarrow import fs

        found = self.uri.replace("RUN", name)
        system, path = fs.FileSystem.from_uri(found)
        system.create_dir(path.split("/")[0])
        return found


@contextmanager
def serve() -> Iterator[Server]:
    import moto.server
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    weather = Weather()
    app = moto.server.DomainDispatcherApplication(moto.server.create_backend_app)
    httpd = make_server("127.0.0.1", 0, _Faulty(app, weather), threaded=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    place = quote(f"127.0.0.1:{httpd.server_port}", safe="")
    options = f"scheme=http&endpoint_override={place}&allow_bucket_creation=true"
    try:
        yield Server(f"s3://key:secret@raynas/runs/RUN?{options}", weather)
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
