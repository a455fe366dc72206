"""What is done beside a search: scores, plans, simulations, checks and comparisons."""
