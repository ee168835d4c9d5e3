"""The generated files: up to date, structural, described; and their limits agree with the models'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from generator import admission, crds, manx_kinds, rbac, structs
from generator.__main__ import ROOT, differences, generated
from generator.schema import structural
from manx_core.api import v1alpha1
from manx_core.api.fields import PRESERVE, RULES

CRDS = crds.definitions()


def schema_of(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


def test_files_are_as_generated() -> None:
    assert differences(generated()) == []


def test_a_stale_file_is_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.__main__.ROOT", tmp_path)
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "old.yaml").write_text("")
    found = differences(dict.fromkeys(list(generated())[:1], "text"))
    assert "crds/old.yaml: of no kind" in found
    assert "+text" in found


@pytest.mark.parametrize("name", sorted(CRDS))
def test_every_field_is_typed_and_described(name: str) -> None:
    crd = CRDS[name]
    for path, part in parts(schema_of(crd)):
        assert part.get("type") or part.get("x-kubernetes-int-or-string") or part.get(PRESERVE), path
        assert not {"$ref", "anyOf", "title", "additionalProperties"} & part.keys() or isinstance(
            part.get("additionalProperties"), dict
        ), path
        if part.get("enum"):
            assert None not in part["enum"], path
    group = crd["spec"]["group"]
    if group != v1alpha1.GROUP:
        bare = [path for path, part in parts(schema_of(crd)) if "description" not in part and not path.endswith("[]")]
        assert set(bare) <= {".metadata", ".metadata.name"}


@pytest.mark.parametrize("name", sorted(CRDS))
def test_no_item_of_an_array_is_compared_with_what_it_was(name: str) -> None:
    """The API server takes no definition that would (oldSelf "on the uncorrelatable portion of the schema")."""
    for path, part in parts(schema_of(CRDS[name])):
        if "[]" in path:
            assert "oldSelf" not in str(part.get(RULES, "")), path


@pytest.mark.parametrize("name", sorted(name for name in CRDS if not name.startswith("manx.dev")))
def test_calicos_yaml_is_never_refused_for_an_unknown_field(name: str) -> None:
    spec = schema_of(CRDS[name])["properties"]["spec"]
    for path, part in parts(spec):
        if part.get("type") == "object":
            assert part.get(PRESERVE) is True or "additionalProperties" in part, path


def test_limits_for_fields_that_are_gone_are_found() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        structs.check_limits((v1alpha1.NodeState,), {("NodeStateSpec", "nowhere"): {}})


def test_docstrings_below_fields_become_descriptions() -> None:
    spec = schema_of(CRDS["manx.dev_nodestates.yaml"])["properties"]["spec"]
    assert spec["properties"]["mtu"]["description"].startswith("Bytes for pods' interfaces")


def test_a_choice_has_no_structural_schema() -> None:
    with pytest.raises(ValueError, match="choice"):
        structural({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})


def pattern(kind: str, field: str) -> re.Pattern[str]:
    limits = manx_kinds.LIMITS[kind, field]
    return re.compile(limits.get("items", limits)["pattern"])


@pytest.mark.parametrize(
    ("kind", "field", "good", "bad"),
    [
        ("RuleEnd", "ports", ["1", "80", "65535", "8000-8080"], ["0", "65536", "80-", "-80", "80,81", "http", "08"]),
        ("RuleEnd", "nets", ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3", "::/0", "2001:db8::/32"],
         ["10.0.0.0/33", "256.0.0.0/8", "10.0.0/8", "all", "10.0.0.0/8\n; reboot"]),
        ("AddressGroupSpec", "members",
         ["", "10.0.0.1", "10.0.0.0/8", "10.0.0.1,tcp:80", "10.0.0.1,sctp:65535", "fd00::1", "fd00::/8",
          "10.0.0.1\nfd00::/8\n10.0.0.1,tcp:80"],
         ["10.0.0.0/33", "10.0.0.0/8,tcp:1", "10.0.0.1,tcp:0", "10.0.0.1,icmp:1", "10.0.0.1 comment x",
          "10.0.0.1,TCP:80", "10.0.0.1 10.0.0.2", "10.0.0.1\n\n10.0.0.2", "10.0.0.1\nall", "all\n10.0.0.1"]),
        ("NodeStateSpec", "ipv4", ["", "192.0.2.1"], ["192.0.2.1/24", "node", "2001:db8::1"]),
        ("BgpPeer", "address", ["192.0.2.1", "2001:db8::1"], ["", "peer", "192.0.2.1:179"]),
        ("IPAMBlockSpec", "cidr", ["10.244.0.64/26"], ["10.244.0.64/99", "x"]),
    ],
)  # fmt: skip
def test_what_agents_could_not_render_is_refused(kind: str, field: str, good: list[str], bad: list[str]) -> None:
    wanted = pattern(kind, field)
    assert [text for text in good if not wanted.search(text)] == []
    assert [text for text in bad if wanted.fullmatch(text)] == []


def test_every_struct_between_operator_and_agents_has_a_definition() -> None:
    kinds = {struct.__name__ for _, struct in manx_kinds.KINDS}
    tops = {
        name
        for name, found in vars(v1alpha1).items()
        if isinstance(found, type) and issubclass(found, msgspec.Struct) and "metadata" in found.__struct_fields__
    }
    assert kinds == tops - {"PolicyProgram"}  # StoredProgram is the whole of it


def test_the_operators_manifest_begins_with_the_definitions() -> None:
    text = (ROOT / "manifests/operator.yaml").read_text()
    kinds = re.findall(r"^kind: (\w+)$", text, re.M)
    assert kinds[: len(CRDS)] == ["CustomResourceDefinition"] * len(CRDS)
    assert kinds.index("Namespace") < kinds.index("ServiceAccount") < kinds.index("Deployment")


def test_whatever_agents_may_write_of_ours_is_held_to_their_node() -> None:
    (policy,) = (
        made
        for made in admission.objects()
        if made["metadata"]["name"] == "agents.manx.dev" and "matchConstraints" in made["spec"]
    )
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["ipamblocks", "ipamblocks/*", "nodereports", "nodereports/*"]
    assert rbac.written([{"apiGroups": ["g"], "resources": ["a", "b/status"], "verbs": ["get", "update"]}], "g") == [
        "a",
        "b",
    ]
    assert rbac.written(rbac.AGENT_RULES, "manx.dev") == ["ipamblocks", "nodereports"]
