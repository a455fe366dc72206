"""Tabular benchmarks: what stands for trainings. One of the package is one file here, and one line
in ``BENCHMARKS``.
"""

from raynas.benchmarks.base import NoImages, TabularBenchmark
from raynas.benchmarks.nasbench201 import NASBench201Table

BENCHMARKS: dict[str, type[TabularBenchmark]] = {
    NASBench201Table.name: NASBench201Table,
}

__all__ = ["BENCHMARKS", "NASBench201Table", "NoImages", "TabularBenchmark"]
