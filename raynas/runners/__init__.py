"""Runners carry out a search in this process, on simulated workers, or on a Ray cluster.

Only the package ``raynas.runners.ray`` imports Ray.
"""
