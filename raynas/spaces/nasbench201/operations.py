"""This module has the operations, edges and choices' names of NAS-Bench-201's cell."""

NONE, SKIP, CONV_1X1, CONV_3X3, POOL = OPERATIONS = (
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "avg_pool_3x3",
)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges as (source, target), in the order of the text."""

NAMES = tuple(f"op_{source}_{target}" for source, target in EDGES)
"""The choices' names, in the order of ``EDGES``."""
