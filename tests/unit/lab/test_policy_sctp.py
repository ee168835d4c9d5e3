"""The few SCTP packets that lab tests send: against RFC 9260 and the published check value of CRC-32C."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab_policy_sctp import ABORT, INIT, INIT_ACK, Packet, crc32c, decode

PORTS = st.integers(1, 65535)
TAGS = st.integers(1, 2**32 - 1)
IP_HEADER = bytes([0x46]) + bytes(23)  # with one word of options


def test_the_checksum_has_its_published_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(source_port=PORTS, port=PORTS, tag=TAGS, init_tag=TAGS, chunk=st.sampled_from((INIT, INIT_ACK)))
def test_what_is_sent_is_what_is_read(source_port: int, port: int, tag: int, init_tag: int, chunk: int) -> None:
    packet = Packet(source_port, port, tag, chunk, init_tag)
    assert decode(IP_HEADER + packet.encode()) == packet


def test_a_reply_goes_back_under_the_tag_that_was_asked_for() -> None:
    assert Packet(40000, 80, 0, INIT, 77).acknowledged(1) == Packet(80, 40000, 77, INIT_ACK, 1)


def test_a_chunk_says_its_own_length() -> None:
    encoded = Packet(1, 2, 0, INIT, 3).encode()
    assert int.from_bytes(encoded[14:16], "big") == len(encoded) - 12 == 20


def test_what_is_no_sctp_packet_is_none() -> None:
    assert decode(b"") is None
    assert decode(IP_HEADER + b"short") is None
    assert decode(IP_HEADER + Packet(1, 2, 3, ABORT).encode()) == Packet(1, 2, 3, ABORT)
