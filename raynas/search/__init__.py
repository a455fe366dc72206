"""This package has the search as one state machine, from proposals to stored trials.

It proposes, checks bounds, screens, starts, judges, stores and ends trials. It does not use Ray.
:mod:`raynas.search.builder` puts searches together; a runner carries out any
:class:`~raynas.search.job_source.JobSource`.
"""
