"""This package carries out a run, from its experiment to its report.

It holds the launch, the stages, the results, and the history of a run.
"""
