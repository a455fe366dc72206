"""Tabular benchmarks, whose recorded or computed results stand for trainings.

Adding one takes a file in this folder and a line in ``BENCHMARKS``.
"""

from raynas.benchmarks.base import NoImages, TabularBenchmark
from raynas.benchmarks.nasbench201 import NASBench201Table
from raynas.benchmarks.synthetic import Synthetic

BENCHMARKS: dict[str, type[TabularBenchmark]] = {
    NASBench201Table.name: NASBench201Table,
    Synthetic.name: Synthetic,
}

__all__ = ["BENCHMARKS", "NASBench201Table", "NoImages", "Synthetic", "TabularBenchmark"]
