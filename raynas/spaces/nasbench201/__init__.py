"""The search space of NAS-Bench-201: its choices, networks and supernet."""
