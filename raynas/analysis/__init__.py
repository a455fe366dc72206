"""Numbers from the store: statistics, rankings, comparisons at equal cost."""
