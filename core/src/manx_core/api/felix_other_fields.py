"""Fields of Calico's FelixConfiguration that change nothing here: they are accepted, and told to be without effect.

Owns: their names and types. Must not: hold one that Manx acts on.

Why a list: Calico's YAML is applied unmodified, a wrong type is refused as Calico refuses it, and a field unknown to
both is told from one that only Manx does not act on. Source: Calico v3.30, FelixConfigurationSpec.
"""

from __future__ import annotations

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
    "any": (object,),
}
