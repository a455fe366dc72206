"""A search as one state machine: it proposes, bounds, screens, starts, judges, stores, ends trials.

Nothing here knows Ray. :mod:`raynas.search.builder` puts searches together; a runner carries out
any :class:`~raynas.search.job_source.JobSource`.
"""
