"""The applications beside a search: scores, plans, simulations, checks and comparisons."""
