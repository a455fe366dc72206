"""This package holds the runners on Ray; it is the only place that imports Ray."""
