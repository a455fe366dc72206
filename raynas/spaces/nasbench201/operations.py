"""The operations and edges of NAS-Bench-201's cell, and the names of its choices."""

NONE, SKIP, CONV_1X1, CONV_3X3, POOL = OPERATIONS = (
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "avg_pool_3x3",
)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of the edges, in the order of the text."""

NAMES = tuple(f"op_{source}_{target}" for source, target in EDGES)
"""The choices' names, in the order of ``EDGES``."""
