"""Connections that were established when a policy began to deny them: forgotten, where the settings ask for it.

`connection` reads what the kernel tracks, `judge` decides (both pure), `loop` looks when policy changed.
"""

from manx_agent.recheck.loop import Recheck

__all__ = ["Recheck"]
