"""pyroute2's message classes are there without the rest of it, and the rest still is for whoever wants it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from manx_agent.drivers.netlink_classes import decoded, encoded, ifaddrmsg
assert "pyroute2" not in sys.modules and "pyroute2.iproute" not in sys.modules, "all of pyroute2 was loaded"
address = ifaddrmsg()
address["family"], address["index"], address["attrs"] = 2, 7, [("IFA_LOCAL", "192.0.2.1")]
found = decoded(ifaddrmsg, encoded(address))
assert (found["index"], found.get_attr("IFA_LOCAL")) == (7, "192.0.2.1")
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg as again
assert IPRoute.__module__.startswith("pyroute2") and again is ifaddrmsg
"""


def test_the_classes_come_alone_and_leave_the_package_whole() -> None:
    subprocess.run((sys.executable, "-c", SCRIPT), check=True)
