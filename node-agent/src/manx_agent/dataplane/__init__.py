"""Policy in the kernel: `KernelPolicy` implements `model.PolicyDataplane` by iptables and ipset."""

from manx_agent.dataplane.policy import KernelPolicy

__all__ = ["KernelPolicy"]
