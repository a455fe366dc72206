"""Tabular benchmarks: what stands for trainings. One of the package is one file here, and one line
in ``BENCHMARKS``.
"""

from raynas.benchmarks.base import NoImages, TabularBenchmark
from raynas.benchmarks.nasbench201 import NASBench201Table
from raynas.benchmarks.synthetic import Synthetic

BENCHMARKS: dict[str, type[TabularBenchmark]] = {
    NASBench201Table.name: NASBench201Table,
    Synthetic.name: Synthetic,
}

__all__ = ["BENCHMARKS", "NASBench201Table", "NoImages", "Synthetic", "TabularBenchmark"]
