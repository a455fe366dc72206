"""Measuring subnets with inherited weights: tracing, batched execution and racing."""
