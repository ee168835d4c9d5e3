"""What holds for every test: none may fail because the machine is slow; and what some of them count is told at the end.

Hypothesis by default fails a test whose example, or whose making of an example, takes long; here other suites, a
cluster or a build may run beside it.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

COUNTED = "counted"
"""The property, recorded by a test, that says how much it tried."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each test that counted something, whichever process it ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == COUNTED:
                terminalreporter.write_line(str(value))
