"""A run from its experiment to its report: launch, stages, results and what is stored of it."""
