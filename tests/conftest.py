"""What holds for every test: none may fail because the machine is slow.

Hypothesis by default fails a test whose example, or whose making of an example, takes long; here other suites, a
cluster or a build may run beside it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
