"""Sends numbered UDP datagrams at a steady rate until its standard input closes, then prints how many.

Run inside a pod's namespace: `python probe.py RATE ADDRESS:PORT...`; every target gets RATE datagrams a second. What a
busy machine delays is made up for. Prints "ready" first, in the end the number sent to each target and the seconds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time


def main(rate: int, targets: list[tuple[str, int]]) -> None:
    """Sends until told to stop."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        print("ready", flush=True)
        began, sent = time.monotonic(), 0
        while not select.select([sys.stdin], [], [], 0.0005)[0]:
            while sent < (time.monotonic() - began) * rate:
                for target in targets:
                    with contextlib.suppress(OSError):  # An ICMP error for an earlier one.
                        sender.sendto(b"%d" % sent, target)
                sent += 1
        print(sent, time.monotonic() - began, flush=True)


if __name__ == "__main__":
    places = (text.split(":") for text in sys.argv[2:])
    main(int(sys.argv[1]), [(address, int(port)) for address, port in places])
