"""What of the lab can be tried without a cluster: reading captures, measuring gaps, naming things."""

from __future__ import annotations

import ipaddress
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from lab.control_plane import server_url
from lab.images import Scratch, write_archive
from lab.install import CUSTOM_RESOURCES
from lab.run import LabError, run, wait_for
from lab.settings import POD_CIDR, Settings, load
from lab.stream import RequestStream, parse_opens
from lab.up import cluster_dns

CAPTURE = """\
tcpdump: listening on br0, link-type EN10MB (Ethernet), snapshot length 262144 bytes
10:00:00.1 IP (tos 0xc0, ttl 1, id 1, offset 0, flags [DF], proto TCP (6), length 105)
    198.51.100.11.33333 > 198.51.100.12.179: Flags [P.], cksum 0x1, seq 1:54, ack 1, length 53: BGP
\tOpen Message (1), length: 53
\t  Version 4, my AS 64512, Holdtime 180s, ID 198.51.100.11
10:00:00.2 IP (tos 0xc0, ttl 1, id 1, offset 0, flags [DF], proto TCP (6), length 105)
    198.51.100.12.179 > 198.51.100.11.33333: Flags [P.], cksum 0x1, seq 1:54, ack 1, length 53: BGP
\tOpen Message (1), length: 53
\t  Version 4, my AS 63400, Holdtime 180s, ID 198.51.100.12
10:00:00.3 IP (tos 0xc0, ttl 1, id 1, offset 0, flags [DF], proto TCP (6), length 71)
    198.51.100.11.33334 > 198.51.100.13.179: Flags [P.], cksum 0x1, seq 1:20, ack 1, length 19: BGP
\tKeepalive Message (4), length: 19
10:00:00.4 IP (tos 0xc0, ttl 1, id 1, offset 0, flags [DF], proto TCP (6), length 105)
    198.51.100.11.33335 > 198.51.100.12.179: Flags [P.], cksum 0x1, seq 1:54, ack 1, length 53: BGP
\tOpen Message (1), length: 53
\t  Version 4, my AS 63400, Holdtime 180s, ID 198.51.100.11
10:00:00.5 IP6 (class 0xc0, flowlabel 0x1, hlim 1, next-header TCP (6) payload length: 85) 2001:db8:51::b.33336 > \
2001:db8:51::c.179: Flags [P.], cksum 0x1, seq 1:54, ack 1, length 53: BGP
\tOpen Message (1), length: 53
\t  Version 4, my AS 63401, Holdtime 180s, ID 198.51.100.11
10:00:00.6 IP6 (class 0xc0, hlim 1, next-header TCP (6) payload length: 32) 2001:db8:51::c.179 > \
2001:db8:51::b.33336: Flags [.], cksum 0x1, ack 54, length 0
"""


def test_the_last_open_of_each_direction_counts() -> None:
    assert parse_opens(CAPTURE) == {
        ("198.51.100.11", "198.51.100.12"): 63400,
        ("198.51.100.12", "198.51.100.11"): 63400,
        ("2001:db8:51::b", "2001:db8:51::c"): 63401,
    }
    assert parse_opens(CAPTURE.rpartition("10:00:00.4")[0])[("198.51.100.11", "198.51.100.12")] == 64512


@pytest.mark.parametrize(
    ("answered", "ended", "gap"),
    [
        ([1.0, 1.1, 1.2], 1.25, 0.1),
        ([1.0, 4.0, 4.1], 4.2, 3.0),
        ([1.0, 1.1], 9.1, 8.0),  # it never came back: the end counts
        ([], 5.0, float("inf")),
    ],
)
def test_the_longest_gap_includes_the_end(answered: list[float], ended: float, gap: float) -> None:
    stream = RequestStream.__new__(RequestStream)
    stream.answered, stream.ended = answered, ended
    assert stream.longest_gap() == pytest.approx(gap)


def test_labs_of_different_names_share_nothing_of_the_machine() -> None:
    one, other = Settings(name="manx"), Settings(name="manx-ci")
    for attribute in ("state", "cgroup", "kubeconfig", "preferred_port"):
        assert getattr(one, attribute) != getattr(other, attribute)


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"name": ""}, {"name": "-x"}, {"nodes": 0}, {"nodes": 61}])
def test_wrong_settings_say_what_is_allowed(wrong: dict[str, str | int]) -> None:
    with pytest.raises(LabError, match=r"at most 31|1 to 60"):
        Settings(**wrong)  # type: ignore[arg-type]


def test_members_have_addresses_of_their_own() -> None:
    lab = Settings(nodes=60)
    members = [lab.member(name) for name in ("fabric", "control-plane", *lab.node_names)]
    assert len({m.address for m in members}) == len({m.address6 for m in members}) == 62
    with pytest.raises(LabError, match="node61"):
        lab.member("node61")


def test_a_lab_of_ipv6_alone_has_no_ipv4_address_anywhere() -> None:
    lab = Settings(ipv6_only=True)
    member = lab.member("node1")
    assert (lab.families, lab.node_families, member.address) == ((6,), (6,), member.address6)
    assert (Settings().families, Settings(ipv4_only=True).families) == ((4, 6), (4,))
    assert server_url(lab) == "https://[2001:db8:51::2]:6443"
    assert "10.96" not in cluster_dns(lab)
    with pytest.raises(LabError, match="one of them"):
        Settings(ipv4_only=True, ipv6_only=True)


@pytest.mark.parametrize("families", CUSTOM_RESOURCES)
def test_pools_are_of_the_families_that_pods_are_to_have(families: tuple[int, ...]) -> None:
    found = yaml.safe_load(CUSTOM_RESOURCES[families].read_text())
    pools = [ipaddress.ip_network(pool["cidr"]) for pool in found["spec"]["calicoNetwork"]["ipPools"]]
    assert {str(pool): pool.version for pool in pools} == {POD_CIDR[family]: family for family in families}


def test_a_lab_that_is_not_up_is_named() -> None:
    with pytest.raises(LabError, match="no lab named 'nowhere' is up"):
        load("nowhere")


def test_an_archive_has_what_containerd_asks_for(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = Scratch("localhost/try:1", {"bin/program": program}, ["/bin/program", "serve"], {"bin/alias": "program"})
    write_archive(image, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest"))
        config = json.load(archive.extractfile(manifest["Config"]) or pytest.fail("no configuration"))
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            assert layer.getmember("bin/program").mode == 0o755
            assert layer.getmember("bin/alias").linkname == "program"
    assert manifest["RepoTags"] == ["localhost/try:1"]
    assert config["config"]["Entrypoint"] == ["/bin/program"]
    assert len(config["rootfs"]["diff_ids"]) == 1


def test_a_command_that_fails_is_quoted_with_its_words() -> None:
    with pytest.raises(LabError, match=r"sh -c echo no >&2; exit 3: exit 3: no"):
        run(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(LabError, match="not installed"):
        run(["no-such-program-anywhere"])


def test_waiting_in_vain_names_what_for_and_the_last_error() -> None:
    def probe() -> bool:
        raise LabError("still starting")

    with pytest.raises(LabError, match=r"waited 0 s in vain for the sun \(last: still starting\)"):
        wait_for("the sun", probe, timeout=0.05, every=0.01)
