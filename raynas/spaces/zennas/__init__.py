"""The search space of Zen-NAS: its choices, networks and supernet."""
