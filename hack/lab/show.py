"""The show (being written)."""

from lab.machines import Machines


def show(machines: Machines) -> None:
    """Nothing yet."""
