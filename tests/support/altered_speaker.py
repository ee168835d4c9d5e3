"""Manx's speaker, altered: `python altered_speaker.py ALTERATION` stands for `python -m manx_agent.bgp.speaker`.

Owns: the alterations. "foreign": an ExaBGP of a version that we do not know, by its own loop, with the relay as a
process of its own. "frail": the relay inside ExaBGP fails once, whenever the shared directory has a file "fail".
"""

from __future__ import annotations

import sys
import time

from manx_agent.bgp import relay, server, speaker
from manx_agent.bgp.files import SharedPaths

FAIL = "fail"
START_SECONDS = 0.5
"""As long as a process may take: time enough for a test to see that there is no relay."""


def foreign() -> None:
    server.KNOWN = "another version than "


class FrailRelay(relay.Relay):
    def __init__(self, paths: SharedPaths, speaker: int) -> None:
        time.sleep(START_SECONDS)
        super().__init__(paths, speaker)

    def attend(self) -> list[str]:
        file = self._paths.directory / FAIL
        if file.exists():
            file.unlink()
            raise RuntimeError("as the test wishes")
        return super().attend()

    def patience(self) -> float:
        return min(relay.TICK_SECONDS, super().patience())


def frail() -> None:
    relay.Relay = FrailRelay  # type: ignore[misc]


if __name__ == "__main__":
    alteration = sys.argv.pop(1)
    if len(sys.argv) == 1:
        speaker.main((__file__, alteration))
    {"foreign": foreign, "frail": frail}[alteration]()
    server.main()
