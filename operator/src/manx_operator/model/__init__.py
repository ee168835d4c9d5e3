"""The policy model: everything that users declare → every policy object that agents are sent, kept up to date.

Owns: classes, programs and groups, their chunks and their spans, tiers, and each node's endpoints.
Must not: do I/O, know resourceVersions or epochs, or decide when something is written.

Why incremental: what is computed is proportional to what changed. What comes out depends on the current inputs alone,
but for two things that the design wants kept: the chunk that a member is in, and the last valid version of a policy.
"""

from manx_operator.model.policy_model import NetworkSetFacts, PolicyModel
from manx_operator.model.types import Changes, DesiredObject, Key, Kind, PolicyId

__all__ = ["Changes", "DesiredObject", "Key", "Kind", "NetworkSetFacts", "PolicyId", "PolicyModel"]
