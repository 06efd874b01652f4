"""Inputs that differ a little from seeds and kept ones, under the sanitizers.

Fuzzing guided by coverage needs a build of its own there (``make fuzz SANITIZE=1``), which would
take longer than this.
"""

import importlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

QUICK = 8_000
HANDSHAKES = 300
"""For targets that shake hands for each input."""

INPUTS = {
    "packet_header": QUICK,
    "packet_numbers": HANDSHAKES,
    "quic_initial": HANDSHAKES,
    "quic_frames": HANDSHAKES,
    "quic_streams": QUICK,
    "ack_ranges": HANDSHAKES,
    "client_hello": QUICK,
    "tls_messages": HANDSHAKES,
    "server_flights": QUICK // 10,
    "native_parameters": QUICK,
    "transport_parameters": HANDSHAKES,
    "qpack_block": QUICK,
    "http3_frames": QUICK,
    "http3_responses": QUICK,
    "http3_settings": QUICK // 10,
    "client_addresses": QUICK,
    "proxy_header": QUICK,
}
"""Of the parsers of packets, frames, transport parameters and HTTP/3, and what had the fewest."""

INPUT_MAX_BYTES = 4096
CHANGES_MAX = 4
EXTREMES = (0x00, 0x01, 0x3F, 0x40, 0x7F, 0x80, 0xBF, 0xC0, 0xFF)
"""Where variable-length integers and signs change (RFC 9000 section 16)."""

pytestmark = pytest.mark.skipif(
    os.environ.get("SPOOKY_SANITIZE") != "1", reason="under sanitizers only"
)


def mutated(kept: list[bytes], count: int, choose: random.Random) -> Iterator[bytes]:
    """Yield so many inputs, each a kept one with some changes."""
    for _ in range(count):
        made = bytearray(choose.choice(kept))
        for _ in range(choose.randint(1, CHANGES_MAX)):
            at = choose.randint(0, len(made))
            end = min(len(made), at + choose.randint(1, 16))
            match choose.randrange(5):
                case 0:
                    made[at:end] = choose.randbytes(end - at)
                case 1:
                    made[at : at + 1] = bytes((choose.choice(EXTREMES),))
                case 2:
                    del made[at:end]
                case 3:
                    made[at:at] = made[at:end]
                case _:
                    other = choose.choice(kept)
                    made[at:] = other[choose.randint(0, len(other)) :]
        yield bytes(made[:INPUT_MAX_BYTES])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", INPUTS)
def test_changed_inputs_of_parsers_are_read_within_bounds(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    kept = [*target.seeds()]
    kept += [path.read_bytes() for path in sorted(Path("fuzz/corpus", name).glob("*.bin"))]
    for changed in mutated(kept, INPUTS[name], random.Random(name)):
        target.run(changed)
