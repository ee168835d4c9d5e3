"""Addresses of this node's pods: which is given, what is remembered of it, and who is told.

`records` and `table` are pure; `journal` is the disk, `allocator` what CNI asks, `status_writer` tells the API server.
"""

from manx_agent.ipam.allocator import Ipam
from manx_agent.ipam.journal import JournalError
from manx_agent.ipam.status_writer import StatusWriter

__all__ = ["Ipam", "JournalError", "StatusWriter"]
