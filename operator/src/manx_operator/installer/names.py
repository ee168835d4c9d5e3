"""Names and labels of what the installer makes, and finds again.

Owns: names alone. Must not: be changed lightly: what was made under an old name would not be found again.
"""

from __future__ import annotations

NAMESPACE = "manx-system"
AGENT = "manx-node"
OPERATOR = "manx-operator"
AGENT_LABELS = {"k8s-app": AGENT}
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
OWN_LABELS = {MANAGED_BY: OPERATOR, PART_OF: "manx"}
OWN_SELECTOR = f"{MANAGED_BY}={OPERATOR}"
INSTALLATION_UID = "manx.dev/installation-uid"
"""Annotation: the Installation that an object was made for."""
RENDERED = "manx.dev/rendered"
"""Annotation of the DaemonSet: a hash of what the installer rendered, so that it knows without comparing defaults."""
