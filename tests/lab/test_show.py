"""The show is a test too: every step of it is checked, on the cluster of the lab tests."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from lab.show import show


def test_the_show(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """It raises LabError at the first step that is not so; afterwards the AS number is the default again."""
    show(cluster.machines)
    told = capsys.readouterr().out
    assert "the longest gap was" in told
    assert told.count("ok:") > 10
    cluster.kubectl("delete", "bgpconfigurations.projectcalico.org", "default")
