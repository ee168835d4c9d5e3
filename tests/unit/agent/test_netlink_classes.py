"""pyroute2's message classes are there without the rest of it, and the rest still is for whoever wants it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from manx_agent.drivers.netlink_classes import decoded, encoded, rtmsg
assert "pyroute2" not in sys.modules and "pyroute2.iproute" not in sys.modules, "all of pyroute2 was loaded"
route = rtmsg()
route["family"], route["dst_len"], route["attrs"] = 2, 32, [("RTA_DST", "192.0.2.1"), ("RTA_OIF", 7)]
found = decoded(rtmsg, encoded(route))
assert (found["dst_len"], found.get_attr("RTA_DST"), found.get_attr("RTA_OIF")) == (32, "192.0.2.1", 7)
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.rtmsg import rtmsg as again
assert IPRoute.__module__.startswith("pyroute2") and again is rtmsg
"""


def test_the_classes_come_alone_and_leave_the_package_whole() -> None:
    subprocess.run((sys.executable, "-c", SCRIPT), check=True)
