"""Common ground of the tests: silence and isolation for Ray, threads for torch."""

from __future__ import annotations

import os

# before anything imports Ray: no statistics, a private session, no token files in the home folder
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
