"""Contract suites that every part of raynas passes, for parts of your own, and toys for tests.

A suite is a class of pytest tests. Subclass it in a test file, and define the fixture that returns
your part:

=========================================================  ========================================
:class:`~raynas.testing.spaces.SearchSpaceTestCase`        fixture ``space``
:class:`~raynas.testing.proxies.ProxyTestCase`             fixture ``proxy``
:class:`~raynas.testing.samplers.SamplerTestCase`          fixture ``sampler``, a function without
                                                           arguments that makes one; the module has
                                                           two more suites for samplers
:class:`~raynas.testing.schedulers.SchedulerTestCase`      fixture ``scheduler``, as for samplers
:class:`~raynas.testing.evaluators.EvaluatorTestCase`      fixture ``new_evaluator``
:class:`~raynas.testing.data.DatasetTestCase`              fixture ``dataset``
:class:`~raynas.testing.runners.RunnerTestCase`            fixture ``make``, a function of resources
                                                           that makes a runner
=========================================================  ========================================

The toys are in :mod:`raynas.testing.toys`, searches on them in :mod:`raynas.testing.searches`.

The suites need pytest and hypothesis: ``pip install raynas[testing]``. Import them from their
modules; this package alone imports nothing, so that the toys can be used without pytest.
"""

import sys

_SUITES = ("data", "evaluators", "proxies", "runners", "samplers", "schedulers", "spaces")

if "pytest" in sys.modules:  # so that a failed assertion of a suite shows its values
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))
