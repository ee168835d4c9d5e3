"""Fields of Calico's FelixConfiguration that change nothing here: they are accepted, and told to be without effect.

Owns: their names, types and, where Calico's schema has any, their words and ranges. Must not: hold one that Manx acts
on.

Why a list: Calico's YAML is applied unmodified, what Calico refuses is refused, and a field unknown to both is told
from one that only Manx does not act on. Source: Calico v3.30, FelixConfigurationSpec.
"""

from __future__ import annotations

import re
from typing import Any

_BOOLEANS = """
allowIPIPPacketsFromWorkloads allowVXLANPacketsFromWorkloads bpfConnectTimeLoadBalancingEnabled bpfDisableUnprivileged
bpfEnabled bpfHostConntrackBypass bpfKubeProxyEndpointSlicesEnabled bpfKubeProxyIptablesCleanupEnabled
bpfPolicyDebugEnabled debugDisableLogDropping disableConntrackInvalidCheck endpointReportingEnabled genericXDPEnabled
healthEnabled ipipEnabled ipv6Support prometheusGoMetricsEnabled prometheusMetricsEnabled
prometheusProcessMetricsEnabled prometheusWireGuardMetricsEnabled removeExternalRoutes routeSyncDisabled
sidecarAccelerationEnabled usageReportingEnabled useInternalDataplaneDriver vxlanEnabled wireguardEnabled
wireguardEnabledV6 wireguardHostEncryptionEnabled wireguardThreadingEnabled xdpEnabled
"""
_INTEGERS = """
bpfExtToServiceConnmark bpfMapSizeConntrack bpfMapSizePerCpuConntrack bpfMapSizeIPSets bpfMapSizeIfState
bpfMapSizeNATAffinity bpfMapSizeNATBackend bpfMapSizeNATFrontend bpfMapSizeRoute debugPort deviceRouteProtocol
goGCThreshold goMaxProcs goMemoryLimitMB healthPort ipipMTU maxIpsetSize metadataPort nftablesMarkMask
prometheusMetricsPort vxlanMTU vxlanMTUV6 vxlanPort vxlanVNI wireguardListeningPort wireguardListeningPortV6
wireguardMTU wireguardMTUV6 wireguardRoutingRulePriority
"""
_STRINGS = """
awsSrcDstCheck bpfAttachType bpfCTLBLogFilter bpfConnectTimeLoadBalancing bpfConntrackLogLevel bpfConntrackMode
bpfConntrackCleanupMode bpfDataIfacePattern bpfDisableGROForIfaces bpfEnforceRPF bpfExternalServiceMode
bpfExportBufferSizeMB bpfHostNetworkedNATWithoutCTLB bpfKubeProxyHealthzPort bpfJITHardening bpfKubeProxyMinSyncPeriod
bpfL3IfacePattern bpfLogLevel bpfProfiling bpfRedirectToPeer cgroupV2Path dataplaneDriver dataplaneWatchdogTimeout
debugHost debugMemoryProfilePath debugSimulateCalcGraphHangAfter debugSimulateDataplaneApplyDelay
debugSimulateDataplaneHangAfter deviceRouteSourceAddress deviceRouteSourceAddressIPv6 endpointReportingDelay
endpointStatusPathPrefix featureDetectOverride featureGates floatingIPs flowLogsCollectorDebugTrace
flowLogsFlushInterval flowLogsGoldmaneServer flowLogsLocalReporter flowLogsPolicyEvaluationMode goldmaneServer
healthHost interfaceExclude interfacePrefix interfaceRefreshInterval ipForwarding iptablesLockFilePath
iptablesLockProbeInterval iptablesLockTimeout iptablesMangleAllowAction iptablesNATOutgoingInterfaceFilter
iptablesPostWriteCheckInterval ipv4ElevatedRoutePriority ipv4NormalRoutePriority ipv6ElevatedRoutePriority
ipv6NormalRoutePriority istioAmbientMode istioDSCPMark liveMigrationRouteConvergenceTime logActionRateLimit
logActionRateLimitBurst logDebugFilenameRegex logFilePath logSeverityFile logSeverityScreen logSeveritySys metadataAddr
mtuIfacePattern natOutgoingAddress natOutgoingExclusions netlinkTimeout nftablesFilterAllowAction
nftablesFilterDenyAction nftablesMangleAllowAction nftablesMode nftablesRefreshInterval nfNetlinkBufSize openstackRegion
policySyncPathPrefix programClusterRoutes prometheusMetricsCAFile prometheusMetricsCertFile prometheusMetricsClientAuth
prometheusMetricsHost prometheusMetricsKeyFile prometheusReporterPort reportingInterval reportingTTL
requireMTUFile routeSource serviceLoopPrevention usageReportingInitialDelay usageReportingInterval
windowsManageFirewallRules wireguardInterfaceName wireguardInterfaceNameV6 wireguardKeepAlive workloadSourceSpoofing
xdpRefreshInterval
"""
_LISTS = """
bpfDSROptoutCIDRs bpfExcludeCIDRsFromNAT bpfForceTrackPacketsFromIfaces externalNodesList failsafeInboundHostPorts
failsafeOutboundHostPorts healthTimeoutOverrides kubeNodePortRanges routeTableRanges
"""
_OBJECTS = "bpfConntrackTimeouts bpfLogFilters routeTableRange"
_NUMBERS_OR_STRINGS = """
bpfExportBufferSizeMB bpfKubeProxyHealthzPort bpfPSNATPorts istioDSCPMark ipv4ElevatedRoutePriority
ipv4NormalRoutePriority ipv6ElevatedRoutePriority ipv6NormalRoutePriority logActionRateLimitBurst prometheusReporterPort
flowLogsCollectorDebugTrace requireMTUFile
"""

OTHER_FIELDS: dict[str, str] = {
    **dict.fromkeys(_BOOLEANS.split(), "boolean"),
    **dict.fromkeys(_INTEGERS.split(), "integer"),
    **dict.fromkeys(_STRINGS.split(), "string"),
    **dict.fromkeys(_LISTS.split(), "array"),
    **dict.fromkeys(_OBJECTS.split(), "object"),
    **dict.fromkeys(_NUMBERS_OR_STRINGS.split(), "any"),
}
"""Field → its JSON type; "any" where releases of Calico differ."""
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
    "any": (int, str),
}

WORDS: dict[str, tuple[str, ...]] = {
    "awsSrcDstCheck": ("DoNothing", "Enable", "Disable"),
    "bpfConnectTimeLoadBalancing": ("TCP", "Enabled", "Disabled"),
    "bpfHostNetworkedNATWithoutCTLB": ("Enabled", "Disabled"),
    "floatingIPs": ("Enabled", "Disabled"),
    "windowsManageFirewallRules": ("Enabled", "Disabled"),
}
"""Field → the words that it may be."""
_SEVERITIES = ("Debug", "Info", "Warning", "Error", "Fatal")
WORDS_IN_ANY_CASE: dict[str, tuple[str, ...]] = {
    "bpfEnforceRPF": ("Disabled", "Strict", "Loose"),
    "bpfExternalServiceMode": ("Tunnel", "DSR"),
    "bpfLogLevel": ("Off", "Info", "Debug"),
    "iptablesMangleAllowAction": ("Accept", "Return"),
    "logSeverityFile": _SEVERITIES,
    "logSeverityScreen": _SEVERITIES,
    "logSeveritySys": _SEVERITIES,
    "routeSource": ("WorkloadIPs", "CalicoIPAM"),
    "serviceLoopPrevention": ("Drop", "Reject", "Disabled"),
    "workloadSourceSpoofing": ("Disabled", "Any"),
}
"""The same, of words that may also be empty."""
_DURATIONS = """
bpfKubeProxyMinSyncPeriod debugSimulateCalcGraphHangAfter debugSimulateDataplaneApplyDelay
debugSimulateDataplaneHangAfter endpointReportingDelay interfaceRefreshInterval iptablesLockProbeInterval
iptablesLockTimeout iptablesPostWriteCheckInterval netlinkTimeout reportingInterval reportingTTL
usageReportingInitialDelay usageReportingInterval wireguardKeepAlive xdpRefreshInterval
"""
_PORTS = """
debugPort healthPort metadataPort prometheusMetricsPort vxlanPort wireguardListeningPort wireguardListeningPortV6
"""
DURATIONS, PORTS = frozenset(_DURATIONS.split()), frozenset(_PORTS.split())
DURATION_PATTERN = "^([0-9]+([.][0-9]+)?(ms|s|m|h))*$"


def allowed(name: str) -> tuple[str, dict[str, Any]]:
    """What a field's value must be beside its type, in words, and as keywords of a schema; empty: anything."""
    if words := WORDS.get(name):
        return f"one of {', '.join(words)}", {"enum": list(words)}
    if words := WORDS_IN_ANY_CASE.get(name):
        return f"one of {', '.join(words)}", {"pattern": f"^(?i)({'|'.join(words)})?$"}
    if name in DURATIONS:
        return 'a duration such as "90s" or "2m30s"', {"pattern": DURATION_PATTERN}
    if name in PORTS:
        return "a port from 0 to 65535", {"minimum": 0, "maximum": 65535}
    return "", {}


def fits(name: str, value: object) -> bool:
    """Whether a value of the right type is one that the field may have."""
    if words := WORDS.get(name):
        return value in words
    if words := WORDS_IN_ANY_CASE.get(name):
        return not value or str(value).lower() in {word.lower() for word in words}
    if name in DURATIONS:
        return re.fullmatch(DURATION_PATTERN, str(value)) is not None
    return name not in PORTS or (isinstance(value, int) and 0 <= value <= 65535)
