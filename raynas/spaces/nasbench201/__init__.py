"""This package has the search space of NAS-Bench-201: its choices, networks and supernet."""

from raynas.spaces.nasbench201.operations import EDGES, NAMES, OPERATIONS
from raynas.spaces.nasbench201.space import NASBench201, NASBench201Cells
from raynas.spaces.nasbench201.text import EXAMPLE

__all__ = ["EDGES", "EXAMPLE", "NAMES", "OPERATIONS", "NASBench201", "NASBench201Cells"]
