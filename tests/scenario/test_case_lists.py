"""Every case of the interop runner and of h3spec has a test that names it."""

import re
import subprocess
import sys
from typing import NamedTuple

import pytest


class Cases(NamedTuple):
    """The cases of a suite.

    Attributes:
        count: How many the suite itself has, so that one that was left out is missed.
        names: What each proves; tests have these words in their names.
    """

    count: int
    names: list[str]


INTEROP_RUNNER = Cases(
    25,
    [
        "versionnegotiation",
        "handshake",
        "longrtt",
        "transfer",
        "chacha20",
        "multiplexing",
        "retry",
        "resumption",
        "zerortt",
        "http3",
        "amplificationlimit",
        "blackhole",
        "keyupdate",
        "handshakeloss",
        "transferloss",
        "handshakecorruption",
        "transfercorruption",
        "ecn",
        "rebind-port",
        "rebind-addr",
        "ipv6",
        "connectionmigration",
        "v2",
        "goodput",
        "crosstraffic",
    ],
)

H3SPEC_TRANSPORT = Cases(
    34,
    [
        "FLOW_CONTROL_ERROR if a STREAM frame with a large offset is received",
        "STREAM_LIMIT_ERROR if a stream ID over the limit is received",
        "TRANSPORT_PARAMETER_ERROR if initial_source_connection_id is missing",
        "TRANSPORT_PARAMETER_ERROR if original_destination_connection_id is received",
        "TRANSPORT_PARAMETER_ERROR if preferred_address is received",
        "TRANSPORT_PARAMETER_ERROR if retry_source_connection_id is received",
        "TRANSPORT_PARAMETER_ERROR if stateless_reset_token is received",
        "TRANSPORT_PARAMETER_ERROR if max_udp_payload_size < 1200",
        "TRANSPORT_PARAMETER_ERROR if ack_delay_exponent > 20",
        "TRANSPORT_PARAMETER_ERROR if max_ack_delay >= 2^14",
        "FRAME_ENCODING_ERROR if a frame of unknown type is received",
        "PROTOCOL_VIOLATION on no frames",
        "PROTOCOL_VIOLATION if reserved bits in Handshake are non-zero",
        "PROTOCOL_VIOLATION if PATH_CHALLENGE in Handshake is received",
        "PROTOCOL_VIOLATION if reserved bits in short are non-zero",
        "STREAM_STATE_ERROR if RESET_STREAM is received for a send-only stream",
        "STREAM_STATE_ERROR if STOP_SENDING is received for a non-existing stream",
        "PROTOCOL_VIOLATION if NEW_TOKEN is received",
        "STREAM_STATE_ERROR if STREAM is for a locally-initiated stream not yet created",
        "STREAM_STATE_ERROR if STREAM is for a send-only stream",
        "STREAM_STATE_ERROR if MAX_STREAM_DATA is for a stream not yet created",
        "STREAM_STATE_ERROR if MAX_STREAM_DATA is for a receive-only stream",
        "FRAME_ENCODING_ERROR if invalid MAX_STREAMS is received",
        "FRAME_ENCODING_ERROR or STREAM_LIMIT_ERROR if invalid STREAMS_BLOCKED is received",
        "FRAME_ENCODING_ERROR if NEW_CONNECTION_ID has an invalid Retire_Prior_To",
        "FRAME_ENCODING_ERROR if NEW_CONNECTION_ID has a 0-byte connection ID",
        "PROTOCOL_VIOLATION if HANDSHAKE_DONE is received",
        "unexpected_message if KeyUpdate in Handshake is received",
        "unexpected_message if KeyUpdate in 1-RTT is received",
        "no_application_protocol if none is supported",
        "missing_extension if there are no transport parameters",
        "missing_extension if transport parameters are under the drafts number alone",
        "unexpected_message if EndOfEarlyData is received",
        "PROTOCOL_VIOLATION if CRYPTO in 0-RTT is received",
    ],
)

H3SPEC_HTTP3 = Cases(
    16,
    [
        "H3_FRAME_UNEXPECTED if DATA comes before HEADERS",
        "H3_MESSAGE_ERROR if a pseudo-header is duplicated",
        "H3_MESSAGE_ERROR if mandatory pseudo-header fields are absent",
        "H3_MESSAGE_ERROR if prohibited pseudo-headers are present",
        "H3_MESSAGE_ERROR if pseudo-header fields exist after fields",
        "H3_MISSING_SETTINGS if first control frame is not SETTINGS",
        "H3_FRAME_UNEXPECTED if control stream has DATA",
        "H3_FRAME_UNEXPECTED if control stream has HEADERS",
        "H3_FRAME_UNEXPECTED if a second SETTINGS is received",
        "H3_SETTINGS_ERROR if duplicate setting identifiers exist",
        "H3_SETTINGS_ERROR if HTTP2 settings are included",
        "H3_FRAME_UNEXPECTED if CANCEL_PUSH is on a request stream",
        "QPACK_DECOMPRESSION_FAILED if invalid static table index is in a field line",
        "QPACK_ENCODER_STREAM_ERROR if dynamic table capacity exceeds the limit",
        "H3_CLOSED_CRITICAL_STREAM if stream is closed",
        "QPACK_DECODER_STREAM_ERROR if insert count increment is 0",
    ],
)

MODULES = {
    "runner": ["tests/scenario/test_interop_runner.py", "tests/scenario/test_http3.py"],
    "h3spec": ["tests/scenario/test_h3spec_transport.py", "tests/protocol/h3/test_h3_h3spec.py"],
}

ENGINE = re.compile(r"\[(?:[a-z]+-to-)?(?:aioquic|native)-?")
"""The engines that a test is run for, before its other parameters."""


def words(text: str) -> str:
    """Return a name in the only spelling that names of tests and cases share."""
    return " ".join(re.findall(r"[a-z0-9^<>=]+", text.lower()))


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    """The words of every test of the modules that hold the cases."""
    found = {}
    for key, modules in MODULES.items():
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
        collected = subprocess.run(
            [*command, *modules], capture_output=True, text=True, check=True, timeout=100
        )
        found[key] = [
            words(ENGINE.sub(" ", line.split("::test_")[1]))
            for line in collected.stdout.splitlines()
            if "::" in line
        ]
    return found


@pytest.mark.parametrize("cases", [INTEROP_RUNNER, H3SPEC_TRANSPORT, H3SPEC_HTTP3])
def test_no_case_is_lost_from_a_list(cases: Cases) -> None:
    assert len({*map(words, cases.names)}) == len(cases.names) == cases.count


@pytest.mark.parametrize("case", INTEROP_RUNNER.names)
def test_the_interop_runners_case(case: str, names: dict[str, list[str]]) -> None:
    wanted = words(case)
    assert any(re.fullmatch(rf"{wanted}(?: \d+)?", name) for name in names["runner"])


@pytest.mark.parametrize("case", [*H3SPEC_TRANSPORT.names, *H3SPEC_HTTP3.names])
def test_the_case_of_h3spec(case: str, names: dict[str, list[str]]) -> None:
    wanted = words(case)
    assert any(wanted in name for name in names["h3spec"])


def test_a_case_without_a_test_is_found(names: dict[str, list[str]]) -> None:
    for found in names.values():
        assert not any(words("connection of the third kind") in name for name in found)
