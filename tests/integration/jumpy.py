"""``python -m integration.jumpy ...`` is raynas with a wall clock that jumps.

The file ``$RAYNAS_CLOCK`` says by how many seconds it is wrong now.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

_now = time.time


def wrong_by() -> float:
    try:
        return float(Path(os.environ["RAYNAS_CLOCK"]).read_text())
    except (OSError, ValueError):
        return 0.0


class _Jumpy(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=wrong_by())


if __name__ == "__main__":
    from raynas.cli.main import main
    from raynas.store import writer

    time.time = lambda: _now() + wrong_by()
    writer.datetime = _Jumpy  # type: ignore[attr-defined]
    main()
