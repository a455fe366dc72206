"""Samplers and schedulers compared on NAS-Bench-201: ``raynas bench nb201``.

Every run of a method is one :class:`~raynas.apps.compare.tasks.Task`, answered by a protocol and
kept in a file as soon as it is there; tables and page are made from that file.
"""
