"""What Manx's operator says about policies: valid or not, and on how many nodes in force.

Owns: the shape of that status, for Calico's policy kinds. (`v1alpha1.PolicyProgramStatus` has the same fields.)
Must not: compute it.
"""

from __future__ import annotations

from pydantic import StrictInt, StrictStr

from manx_core.api.fields import ApiModel, ConditionsStatus
from manx_core.api.kind import Column


class PolicyNodes(ApiModel):
    """Nodes, counted."""

    concerned: StrictInt = 0
    """Nodes with a pod that the policy applies to."""
    in_force: StrictInt = 0
    """Those of them in whose kernel the present generation is."""
    program_generation: StrictInt = 0
    """The metadata.generation of the PolicyProgram that these counts are about."""
    program_version: StrictStr = ""
    """The resourceVersion by which agents were told of that generation."""


class PolicyStatus(ConditionsStatus):
    """What Manx's operator says about a policy. Conditions: Valid; InForce, which names nodes that lag behind."""

    observed_generation: StrictInt = 0
    """The metadata.generation that `nodes` is about."""
    nodes: PolicyNodes = PolicyNodes()
    """On how many nodes the policy is in force."""


VALID = Column("Valid", ".status.conditions[?(@.type=='Valid')].status", description="Whether it means something.")
IN_FORCE = (
    Column("InForce", ".status.nodes.inForce", "integer", "Nodes in whose kernel the present generation is."),
    Column("Nodes", ".status.nodes.concerned", "integer", "Nodes with a pod that the policy applies to."),
)
