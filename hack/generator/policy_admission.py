"""What no schema can say of Calico's policy kinds, said by the API server in CEL: selectors, networks, tiers.

Owns: these admission policies. Must not: be needed for safety: what gets past them, the operator finds and says.

Why not rules in the schemas: the API server bounds those by the longest lists and strings that there could be, and
lists of rules have no bound here; admission policies are charged for what they are really given. Where that is too much
(FailurePolicy Ignore), a policy is taken, and judged by the operator alone.
A selector is checked by a regular expression, for its grammar is regular but for parentheses, which are not counted.
Source: Calico API reference, "Selectors"; validateSelector, validateRule and validateTier of libcalico-go.
"""

from __future__ import annotations

from typing import Any

from generator.admission_parts import ANY, held_to, on
from manx_core.api.calico_policy import LOG_DENIED
from manx_core.api.felix_configuration import ESTABLISHED
from manx_core.api.network_set import RESERVED_LABEL
from manx_core.api.policy_fields import PORT_ALLOWED, PORT_NAME
from manx_core.api.tier import BUILT_IN

GROUP = "projectcalico.org"
_PORT = (
    f"type(p) == int || size(p) <= 15 && p.matches('^{PORT_NAME}$')"
    " || p.matches('^[0-9]{1,5}(:[0-9]{1,5})?$') && int(p.split(':')[0]) >= 1"
    " && int(p.split(':')[size(p.split(':')) - 1]) <= 65535"
    " && int(p.split(':')[0]) <= int(p.split(':')[size(p.split(':')) - 1])"
)
_PORTS = PORT_ALLOWED.replace('"', "'")
Policies = list[tuple[str, dict[str, Any], dict[str, Any] | None]]
"""(name, spec, which objects are parameters)."""

_LABEL = "[A-Za-z0-9_./-]+"
_ANNOTATION_KEY = "^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
"""As Kubernetes has it of an object's annotations."""
_STRING = "('[^']*'|\"[^\"]*\")"
_SET = rf"[{{]\s*({_STRING}(\s*,\s*{_STRING})*\s*,?)?\s*[}}]"
_OPERATOR = rf"(==|!=|contains|starts\s*with|ends\s*with)\s*{_STRING}|(not\s*)?in\s*{_SET}"
_ATOM = rf"(all\(\s*\)|global\(\s*\)|has\(\s*{_LABEL}\s*\)|{_LABEL}\s*({_OPERATOR}))"
_TERM = rf"[!(\s]*{_ATOM}[)\s]*"
SELECTOR = rf"^\s*({_TERM}((&&|[|][|]){_TERM})*)?$"
SELECTOR_ALLOWED = (
    "must be a selector such as \\\"app == 'web'\\\", \\\"has(app) && env in {'a', 'b'}\\\" or \\\"all()\\\""
)


def policies() -> Policies:
    """Every one of these admission policies."""
    return [
        ("calico-policies.manx.dev", _policies(), None),
        ("network-sets.manx.dev", _network_sets(), None),
        ("felix-configurations.manx.dev", _felix(), None),
        ("built-in-tiers.manx.dev", _built_in_tiers(), None),
        ("tier-in-use.manx.dev", _tier_in_use("manx.dev/v1alpha1", "PolicyProgram", "params.spec.source"), ANY),
        (
            "tier-in-use-by-global-policy.manx.dev",
            _tier_in_use(f"{GROUP}/v3", "GlobalNetworkPolicy", "params.spec"),
            ANY,
        ),
    ]


_CHANGED = {
    "name": "changed",
    "expression": "request.operation == 'CREATE' || object.?spec != oldObject.?spec"
    " || object.metadata.?annotations != oldObject.metadata.?annotations"
    " || object.metadata.?labels != oldObject.metadata.?labels",
}
"""What is in an older object shall not stand in the way of its being deleted or owned."""


def _refusing(resources: list[str], variables: dict[str, str], validations: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "failurePolicy": "Ignore",
        "matchConstraints": on(GROUP, resources, ["CREATE", "UPDATE"]),
        "matchConditions": [_CHANGED],
        "variables": [{"name": name, "expression": text} for name, text in variables.items()],
        "validations": validations,
    }


# --- policies: selectors and networks ---------------------------------------------------------------------------------


def _policies() -> dict[str, Any]:
    variables = {name: f"object.?spec.{name}.orValue([])" for name in ("ingress", "egress")}
    validations = [_selector_of_policy(f) for f in ("selector", "serviceAccountSelector", "namespaceSelector")]
    for direction in ("ingress", "egress"):
        for end in ("source", "destination"):
            validations += _ends(direction, end)
        validations.append(_families(direction))
        validations.append(_annotation_keys(direction))
    return _refusing(["networkpolicies", "globalnetworkpolicies"], variables, validations)


def _selector_of_policy(field: str) -> dict[str, str]:
    value = f"object.?spec.{field}.orValue('')"
    return {
        "expression": f"{_is_selector(value)} && !{value}.contains('global(')",
        "messageExpression": f'"spec.{field}: \'" + {value} + "\' is not allowed; {SELECTOR_ALLOWED}"',
    }


def _is_selector(value: str) -> str:
    return f"{value}.matches({_quoted(SELECTOR)})"


def _quoted(pattern: str) -> str:
    """A CEL string literal."""
    return '"' + pattern.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ends(direction: str, end: str) -> list[dict[str, str]]:
    found = []
    for field in ("selector", "notSelector", "serviceAccounts.?selector"):
        value = f"r.?{end}.?{field}.orValue('')"
        name = f"{end}.{field.replace('?', '')}"
        good = f"{_is_selector(value)} && !{value}.contains('global(')"
        found.append(_of_rules(direction, name, good, value, SELECTOR_ALLOWED))
    value = f"r.?{end}.?namespaceSelector.orValue('')"
    good = f"{_is_selector(value)} && (!{value}.contains('global(') || {value}.matches('^[ ]*global[(] *[)][ ]*$'))"
    allowed = SELECTOR_ALLOWED + ", or 'global()' alone"
    found.append(_of_rules(direction, f"{end}.namespaceSelector", good, value, allowed))
    for field in ("ports", "notPorts"):
        value = f"r.?{end}.?{field}.orValue([])"
        shown = f"{value}.map(p, string(p)).join(', ')"
        found.append(_of_rules(direction, f"{end}.{field}", f"{value}.all(p, {_PORT})", shown, f"must be {_PORTS}"))
    for field in ("nets", "notNets"):
        value = f"r.?{end}.?{field}.orValue([])"
        good = f"{value}.all(n, !isCIDR(n) || cidr(n).masked() == cidr(n))"
        allowed = "must be CIDRs such as '198.51.100.0/24', with no bit set beyond the prefix"
        found.append(_of_rules(direction, f"{end}.{field}", good, f"{value}.join(', ')", allowed))
    return found


def _of_rules(direction: str, field: str, good: str, shown: str, allowed: str) -> dict[str, str]:
    """Each rule must be good; the message names the first that is not, by its number. `shown`: CEL, of the value."""
    rules = f"variables.{direction}"
    bad = f"{rules}.filter(r, !({good}))"
    return {
        "expression": f"{rules}.all(r, {good})",
        "messageExpression": f"{bad}.map(r, 'spec.{direction}[' + string({rules}.indexOf(r)) + \"].{field}: '\""
        f' + {shown} + "\' is not allowed; {allowed}")[0]',
    }


def _families(direction: str) -> dict[str, str]:
    nets = " + ".join(
        f"r.?{end}.?{field}.orValue([])" for end in ("source", "destination") for field in ("nets", "notNets")
    )
    good = (
        f"!({nets}).exists(n, n.contains(':')) && r.?ipVersion.orValue(4) == 4"
        f" || !({nets}).exists(n, n.contains('.') && !n.contains(':')) && r.?ipVersion.orValue(6) == 6"
        f" || size({nets}) == 0"
    )
    allowed = "must all be of one IP version, that of ipVersion where it is given"
    return _of_rules(direction, "source and destination nets", good, f"({nets}).join(', ')", allowed)


def _annotation_keys(direction: str) -> dict[str, str]:
    value = "r.?metadata.?annotations.orValue({})"
    good = f"{value}.all(k, size(k) <= 317 && k.matches({_quoted(_ANNOTATION_KEY)}))"
    allowed = "must be names such as 'note' or 'example.com/note', at most 63 of A-Z, a-z, 0-9, '-', '_' and '.'"
    return _of_rules(direction, "metadata.annotations", good, f"{value}.map(k, k).join(', ')", allowed)


# --- network sets and settings ----------------------------------------------------------------------------------------


def _network_sets() -> dict[str, Any]:
    nets = "object.?spec.nets.orValue([])"
    good = "isIP(n) || isCIDR(n)"
    validations = [
        {
            "expression": f"{nets}.all(n, {good})",
            "messageExpression": f"{nets}.filter(n, !({good}))"
            f".map(n, 'spec.nets[' + string({nets}.indexOf(n)) + \"]: '\""
            " + n + \"' is not allowed; must be an address or a CIDR such as '198.51.100.0/24'\")[0]",
        },
        {
            "expression": f"!('{RESERVED_LABEL}' in object.metadata.?labels.orValue({{}}))",
            "message": f"metadata.labels: {RESERVED_LABEL} is not allowed: Manx sets it by itself",
        },
    ]
    return _refusing(["networksets", "globalnetworksets"], {}, validations)


def _felix() -> dict[str, Any]:
    validations = [
        _annotation(LOG_DENIED, ("true", "false")),
        _annotation(ESTABLISHED, ("Keep", "Recheck")),
    ]
    return _refusing(["felixconfigurations"], {}, validations)


def _annotation(name: str, allowed: tuple[str, ...]) -> dict[str, str]:
    value = f"object.metadata.?annotations[?'{name}'].orValue('{allowed[0]}')"
    return {
        "expression": f"{value} in {list(allowed)}",
        "messageExpression": f"'metadata.annotations[{name}]: ' + {value} + ' is not allowed; must be "
        f"{' or '.join(allowed)}'",
    }


# --- tiers ------------------------------------------------------------------------------------------------------------


def _built_in_tiers() -> dict[str, Any]:
    """Their order is held by the schema."""
    return {
        "failurePolicy": "Fail",
        "matchConstraints": on(GROUP, ["tiers"], ["DELETE"]),
        "validations": [
            {
                "expression": f"!(oldObject.metadata.name in {list(BUILT_IN)})",
                "messageExpression": "'Tier ' + oldObject.metadata.name + ' is built in and cannot be deleted'",
            }
        ],
    }


def _tier_in_use(version: str, kind: str, tier: str) -> dict[str, Any]:
    policy = "params.spec.source.name" if kind == "PolicyProgram" else "params.metadata.name"
    validation = {
        "expression": f"{tier}.?tier.orValue('default') != oldObject.metadata.name",
        "messageExpression": f"'Tier ' + oldObject.metadata.name + ' is in use by policy ' + {policy}"
        " + '. Delete its policies first, or give them another spec.tier; if that was done just now, try again'",
    }
    return held_to(on(GROUP, ["tiers"], ["DELETE"]), validation, (version, kind))
