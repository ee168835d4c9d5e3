"""operator.tigera.io/v1 APIServer, Goldmane and Whisker: taken, because Calico's custom-resources.yaml has them.

Owns: their shape. Must not: mean anything; there is nothing for Manx to do with them. projectcalico.org/v3 is served
without an API server of its own, and flow logs are not there yet.
"""

from __future__ import annotations

from typing import Annotated

from manx_core.api.fields import AnyObject, ApiModel, ConditionsStatus, Metadata, NoEffect
from manx_core.api.kind import ACCEPTED, AGE, Kind

_GROUP, _VERSION = "operator.tigera.io", "v1"


class APIServerSpec(ApiModel):
    """How to run Calico's API server."""

    api_server_deployment: Annotated[AnyObject | None, NoEffect] = None
    """Overrides of its Deployment."""
    logging: Annotated[AnyObject | None, NoEffect] = None
    """Its log settings."""


class APIServer(ApiModel):
    """Calico's API server. Manx needs none: projectcalico.org/v3 kinds are custom resources. Accepted, nothing to
    do."""

    metadata: Metadata
    spec: APIServerSpec = APIServerSpec()
    status: ConditionsStatus = ConditionsStatus()


class GoldmaneSpec(ApiModel):
    """How to run Goldmane."""

    goldmane_deployment: Annotated[AnyObject | None, NoEffect] = None
    """Overrides of its Deployment."""


class Goldmane(ApiModel):
    """Calico's flow aggregator, which Manx does not have. Accepted, nothing to do."""

    metadata: Metadata
    spec: GoldmaneSpec = GoldmaneSpec()
    status: ConditionsStatus = ConditionsStatus()


class WhiskerSpec(ApiModel):
    """How to run Whisker."""

    whisker_deployment: Annotated[AnyObject | None, NoEffect] = None
    """Overrides of its Deployment."""
    notifications: Annotated[str | None, NoEffect] = None
    """Whether it shows notifications."""


class Whisker(ApiModel):
    """Calico's flow viewer, which Manx does not have. Accepted, nothing to do."""

    metadata: Metadata
    spec: WhiskerSpec = WhiskerSpec()
    status: ConditionsStatus = ConditionsStatus()


def _kind(kind: str, plural: str) -> Kind:
    return Kind(_GROUP, _VERSION, kind, plural, categories=("calico",), columns=(ACCEPTED, AGE))


ADDONS: tuple[tuple[Kind, type[ApiModel]], ...] = (
    (_kind("APIServer", "apiservers"), APIServer),
    (_kind("Goldmane", "goldmanes"), Goldmane),
    (_kind("Whisker", "whiskers"), Whisker),
)
NOTHING_TO_DO = {
    "APIServer": "Manx needs no API server of its own: projectcalico.org/v3 kinds are custom resources",
    "Goldmane": "Manx has no flow aggregator",
    "Whisker": "Manx has no flow viewer",
}
