"""Counters found again in the text of iptables-save."""

from __future__ import annotations

import pytest

from manx_agent import counters
from manx_agent.counters import Count, concerns, counts, table

_SAVED = """\
*filter
:INPUT ACCEPT [5:5]
:manx-pi-aa - [0:0]
:manx-ci-cc - [0:0]
[7:700] -A INPUT -j ACCEPT
[3:180] -A manx-pi-aa -p tcp -m comment --comment "manx:00 knp.shop.web ingress[2] Allow" -j ACCEPT
[1:60] -A manx-pi-aa -m set --match-set x dst,dst -m comment --comment "manx:01 knp.shop.web ingress[2] Allow" -j ACCEPT
[2:99] -A manx-pi-aa -p udp -m comment --comment "manx:02 knp.shop.web ingress[3] Deny" -j NFLOG --nflog-prefix "x"
[2:99] -A manx-pi-aa -p udp -m comment --comment "manx:03 knp.shop.web ingress[3] Deny" -j DROP
[0:0] -A manx-pi-bb -m comment --comment "manx:04 gnp.all ingress[0] Log" -j LOG --log-prefix "x: " --log-level 5
[9:900] -A manx-ci-cc -m comment --comment "manx:05" -j manx-pi-aa
[9:900] -A manx-ci-cc -m comment --comment "manx:06" -j manx-pi-bb
[4:240] -A manx-ci-cc -m comment --comment "manx:07 tier default ingress denial" -j DROP
COMMIT
"""
_RULE = Count(4, "ingress", ("knp.shop.web",), 2, "Allow", 4, 240)
_DENY = Count(4, "ingress", ("knp.shop.web",), 3, "Deny", 2, 99)
_LOG = Count(4, "ingress", ("gnp.all",), 0, "Log", 0, 0)
_NONE = Count(4, "ingress", ("knp.shop.web", "gnp.all"), -1, "Deny", 4, 240, "default", "manx-ci-cc")


def test_rules_that_became_several_are_one_and_log_entries_do_not_count() -> None:
    assert counts(_SAVED, 4) == [_RULE, _DENY, _LOG, _NONE]


@pytest.mark.parametrize("wanted", ["knp.shop.web", "shop.web", "shop/web"])
def test_a_policy_is_named_as_users_do(wanted: str) -> None:
    assert [one for one in (_RULE, _DENY, _LOG, _NONE) if concerns(one, wanted)] == [_RULE, _DENY, _NONE]
    assert concerns(_LOG, "all")
    assert not concerns(_LOG, "a")


def test_the_table_for_people() -> None:
    lines = table([_RULE, _NONE]).splitlines()
    assert lines[0].split() == ["POLICY", "DIRECTION", "RULE", "ACTION", "FAMILY", "PACKETS", "BYTES"]
    assert lines[1].split() == ["knp.shop.web", "ingress", "2", "Allow", "IPv4", "4", "240"]
    assert lines[2].startswith("tier default: none of knp.shop.web, gnp.all  ingress    -     Deny")


def test_a_kernel_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert counters.main([]) == 1
    assert "iptables-nft-save" in capsys.readouterr().out
