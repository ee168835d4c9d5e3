"""Objects of Calico's policy kinds in every shape that its documentation shows, written for the tests.

Owns: the documents. Each is one that Calico takes as it is.
"""

from __future__ import annotations

from typing import Any

import yaml

TEXT = """
kind: GlobalNetworkPolicy
metadata: {name: deny-all}
spec:
  selector: all()
  types: [Ingress, Egress]
---
kind: GlobalNetworkPolicy
metadata: {name: deny-apps-but-dns}
spec:
  namespaceSelector: has(projectcalico.org/name) && projectcalico.org/name not in {"kube-system", "calico-system"}
  types:
    - Ingress
    - Egress
  egress:
    - action: Allow
      protocol: UDP
      destination:
        selector: 'k8s-app == "kube-dns"'
        ports:
          - 53
---
kind: NetworkPolicy
metadata: {name: to-redis, namespace: default}
spec:
  selector: role == 'database'
  types: [Ingress, Egress]
  ingress:
    - action: Allow
      metadata:
        annotations: {from: frontend, to: database}
      protocol: TCP
      source:
        selector: role == 'frontend'
      destination:
        ports: [6379]
  egress:
    - action: Allow
---
kind: GlobalNetworkPolicy
metadata: {name: no-spaces}
spec:
  selector: "role==\\"webserver\\""
  order: 100
  ingress:
    - action: Allow
      protocol: TCP
      destination: {ports: [80]}
  egress:
    - action: Allow
---
kind: GlobalNetworkPolicy
metadata: {name: block-icmp}
spec:
  order: 200
  selector: all()
  types: [Ingress, Egress]
  ingress:
    - {action: Deny, protocol: ICMP}
    - {action: Deny, protocol: ICMPv6}
  egress:
    - {action: Deny, protocol: ICMP}
    - {action: Deny, protocol: ICMPv6}
---
kind: GlobalNetworkPolicy
metadata: {name: ping-within}
spec:
  selector: projectcalico.org/orchestrator == 'k8s'
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: ICMP
      source: {selector: all()}
      icmp: {type: 8}
    - action: Allow
      protocol: ICMPv6
      source: {selector: all()}
      icmp: {type: 128}
    - action: Allow
      protocol: ICMP
      icmp: {type: 3, code: 1}
      notICMP: {type: 3, code: 4}
---
kind: NetworkPolicy
metadata: {name: api-access, namespace: default}
spec:
  selector: all()
  egress:
    - action: Allow
      destination:
        services: {name: kubernetes, namespace: default}
---
kind: NetworkPolicy
metadata: {name: from-frontend-service, namespace: default}
spec:
  selector: all()
  ingress:
    - action: Allow
      protocol: TCP
      source:
        services: {name: frontend, namespace: web}
      destination: {ports: [80]}
---
kind: NetworkPolicy
metadata: {name: by-accounts, namespace: default}
spec:
  selector: svc == 'post'
  types: [Ingress]
  ingress:
    - action: Allow
      source:
        serviceAccounts: {names: ['api', 'search']}
        namespaceSelector: app == 'microblog'
      protocol: TCP
      destination: {ports: [8080]}
    - action: Allow
      source:
        serviceAccounts: {selector: svc-post == 'access'}
---
kind: NetworkPolicy
metadata: {name: accounts-selected, namespace: default}
spec:
  serviceAccountSelector: 'role == "intern"'
  ingress:
    - action: Deny
      source:
        namespaceSelector: 'environment == "development"'
---
kind: GlobalNetworkPolicy
metadata: {name: devops.stage}
spec:
  tier: devops
  order: 255
  selector: env == "stage"
  ingress:
    - action: Deny
      source: {selector: env != "stage"}
    - action: Pass
  egress:
    - action: Deny
      destination: {selector: env != "stage"}
    - action: Pass
  types: [Ingress, Egress]
---
kind: GlobalNetworkPolicy
metadata: {name: log-then-deny}
spec:
  selector: all()
  types: [Ingress]
  ingress:
    - action: Log
      protocol: ICMP
    - action: Deny
      protocol: ICMP
      source: {notNets: [10.0.0.0/8]}
---
kind: GlobalNetworkPolicy
metadata: {name: host-ports}
spec:
  selector: k8s-role == 'node'
  order: 10
  applyOnForward: true
  preDNAT: true
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: TCP
      source: {nets: [198.51.100.0/24]}
      destination: {notPorts: ["30000:32767"], selector: k8s-role == 'node'}
---
kind: GlobalNetworkPolicy
metadata: {name: untracked}
spec:
  selector: apply-dos-mitigation == 'true'
  doNotTrack: true
  applyOnForward: true
  types: [Ingress]
  ingress:
    - action: Deny
      source: {selector: dos-deny-list == 'true'}
---
kind: NetworkPolicy
metadata: {name: to-outside, namespace: default}
spec:
  selector: color == 'red'
  types: [Egress]
  egress:
    - action: Allow
      destination: {nets: [192.0.2.0/24]}
    - action: Allow
      destination:
        selector: external-database == 'true'
        namespaceSelector: global()
    - action: Deny
      protocol: TCP
      destination:
        notSelector: shape == 'square'
        ports: [80, "443", "8000:8100", http-alt]
---
kind: GlobalNetworkPolicy
metadata: {name: both-families}
spec:
  types: [Egress]
  egress:
    - {action: Allow, ipVersion: 4, destination: {nets: [0.0.0.0/0], notNets: [10.0.0.0/8]}}
    - {action: Allow, ipVersion: 6, destination: {nets: ["::/0"], notNets: ["fc00::/7"]}}
---
kind: Tier
metadata: {name: security}
spec: {order: 300}
---
kind: Tier
metadata: {name: devops}
spec: {order: 300, defaultAction: Pass}
---
kind: GlobalNetworkSet
metadata:
  name: deny-list
  labels: {dos-deny-list: 'true'}
spec:
  nets:
    - 198.51.100.0/24
    - 203.0.113.7
    - 2001:db8::/32
---
kind: NetworkSet
metadata:
  name: external-database
  namespace: default
  labels: {role: db}
spec:
  nets: [198.51.100.0/28, 203.0.113.0/24]
---
kind: FelixConfiguration
metadata: {name: default}
spec:
  bpfConnectTimeLoadBalancing: TCP
  bpfHostNetworkedNATWithoutCTLB: Enabled
  bpfLogLevel: ""
  floatingIPs: Disabled
  healthPort: 9099
  ipv6Support: false
  ipipMTU: 1400
  chainInsertMode: Append
  defaultEndpointToHostAction: Accept
  failsafeInboundHostPorts:
    - {port: 22, protocol: tcp}
    - {port: 6443, protocol: tcp, net: 10.0.0.0/8}
  logSeverityScreen: Info
  nftablesMode: Disabled
  reportingInterval: 0s
  vxlanVNI: 4096
  wireguardEnabled: false
  iptablesRefreshInterval: 60s
  kubeNodePortRanges: ["30000:32767"]
  routeTableRanges:
    - {min: 1, max: 250}
"""
EXAMPLES: list[dict[str, Any]] = [
    {"apiVersion": "projectcalico.org/v3", **document} for document in yaml.safe_load_all(TEXT)
]
