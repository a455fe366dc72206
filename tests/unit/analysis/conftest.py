"""The synthetic runs of report_data.py as fixtures."""

from report_fixtures import *  # noqa: F403
