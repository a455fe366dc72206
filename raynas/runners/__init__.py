"""Runners: what carries out a search, here or on a cluster. The only place that imports Ray."""
