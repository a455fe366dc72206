"""What the NAS-Bench-201 experiments share: reading stored scores and the benchmark's table."""
