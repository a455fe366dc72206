"""Comparison of samplers and schedulers on NAS-Bench-201, for ``raynas bench nb201``.

Every run of a method is one :class:`~raynas.apps.compare.tasks.ComparisonTask`, answered by a
protocol and stored in a file as soon as it is done; tables and page are made from that file.
"""
