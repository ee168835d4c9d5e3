"""The handlers that kopf is given.

Owns: finding them. Must not: handle anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from manx_operator.deps import Deps

if TYPE_CHECKING:
    import kopf


def register(registry: kopf.OperatorRegistry, deps: Deps) -> None:
    """Imported here, in kopf's thread, because handlers import kopf."""
    importlib.import_module("manx_operator.handlers").register(registry, deps)
