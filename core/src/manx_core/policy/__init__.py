"""Policy: from what users declare to rules that a kernel can hold, and what those declarations mean.

Owns: the compilation of each policy kind into one rule model, and the reference semantics (`verdict`) against which the
compiled form is checked. Must not: keep state between calls, or know nodes, objects' names on the wire or kernels.
"""

from manx_core.policy.cluster import Cluster, Direction, NamedPort, PodKey, PolicyKey, is_endpoint, named_ports
from manx_core.policy.compile import CompiledPolicy, InvalidPolicy, compile_network_policy, program_name
from manx_core.policy.evaluate import Flow, evaluate_compiled
from manx_core.policy.scope import GroupDef, Scope, item_labels
from manx_core.policy.validate import Problem, check_network_policy
from manx_core.policy.verdict import Verdict, verdict

__all__ = [
    "Cluster",
    "CompiledPolicy",
    "Direction",
    "Flow",
    "GroupDef",
    "InvalidPolicy",
    "NamedPort",
    "PodKey",
    "PolicyKey",
    "Problem",
    "Scope",
    "Verdict",
    "check_network_policy",
    "compile_network_policy",
    "evaluate_compiled",
    "is_endpoint",
    "item_labels",
    "named_ports",
    "program_name",
    "verdict",
]
