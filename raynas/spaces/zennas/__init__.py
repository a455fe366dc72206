"""This package has the search space of Zen-NAS: its choices and networks."""
