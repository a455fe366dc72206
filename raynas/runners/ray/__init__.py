"""Runners on Ray. This package is the only place that imports Ray."""
