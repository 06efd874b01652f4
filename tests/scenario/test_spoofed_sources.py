"""Whoever sends from the address of another gets nothing sent there (attacks 15 and 19)."""

from aioquic.tls import Epoch

from spooky.protocol.quic.engines import AIOQUIC
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.forge import packet, stream_frame, varint
from tests.protocol.quic.support import upload
from tests.scenario.endpoints import Scenario
from tests.simnet import CLIENT, SERVER

VICTIM = ("203.0.113.77", 5555)
PING = b"\x01"
ANSWER_BYTES = 1_000_000


def sent_to(pair: Scenario, address: tuple[str, int], seconds: float = 1.0) -> int:
    """Return how many bytes the server sends to an address, which never answers."""
    now, total = pair.network.now, 0
    end = now + seconds
    while True:
        for run in pair.server.flush(now):
            total += len(run.payload) if run.destination == address else 0
        deadline = pair.server.deadline()
        if deadline is None or deadline > end:
            return total
        now = max(deadline, now)
        pair.server.expire(now)


def test_a_handshake_packet_proves_no_other_address(engines) -> None:
    """RFC 9000 section 9: nobody migrates before the handshake is confirmed."""
    pair = Scenario((AIOQUIC, engines[1]))
    lost = True
    pair.network.drop = lambda source, _: (
        lost and source == CLIENT and bool(pair.client_handler.handshake)
    )
    pair.run(lambda: bool(pair.client_handler.handshake), 5)
    assert not pair.server_handler.handshake
    forged = packet(pair, PING + bytes(10), Epoch.HANDSHAKE)
    pair.server.receive([Datagram(forged, VICTIM)], pair.network.now)
    lost = False
    pair.run(lambda: bool(pair.server_handler.handshake), 10)
    pair.run(seconds=0.5)

    asked: list[int] = []

    def answer(stream_id: int, *_: object) -> None:
        asked.append(stream_id)
        upload(pair.server_handler, stream_id, bytes(ANSWER_BYTES))

    pair.server_handler.on_data = answer
    request = packet(pair, stream_frame(0, 0, b"get", True))
    pair.server.receive([Datagram(request, VICTIM)], pair.network.now)
    assert sent_to(pair, VICTIM) <= 3 * (len(request) + len(forged))
    assert asked == [0]


def test_an_address_that_is_not_proven_gets_no_token(engine) -> None:
    """RFC 9000 section 8.1.3: a token is itself a proof of the address."""
    told: list[tuple[str, int]] = []

    def new_token(peer: tuple[str, int], version: int) -> bytes:
        told.append(peer)
        return b"token for " + peer[0].encode()

    pair = Scenario((AIOQUIC, engine), server={"new_token": new_token})
    lost = True
    pair.network.drop = lambda source, _: lost and source == SERVER and bool(told)
    pair.run(lambda: bool(pair.server_handler.handshake), 10)
    server, now = pair.server, pair.network.now
    server.flush(now)
    for _ in range(6):
        server.receive([Datagram(packet(pair, PING), CLIENT)], now)
        server.ping()
        for run in server.flush(now):
            pair.network.sent.append((now, SERVER, CLIENT, run.payload))
    latest = max(sent.number for sent in pair.packets(from_server=True))
    acknowledged = b"\x02" + varint(latest) + varint(0) + varint(0) + varint(0)
    spoofed = [
        Datagram(packet(pair, PING + bytes(10)), VICTIM),
        # All before it count as lost, the token among them.
        Datagram(packet(pair, acknowledged), VICTIM),
        Datagram(packet(pair, PING + bytes(10)), CLIENT),
    ]
    server.receive(spoofed, now)
    server.flush(now)
    assert {address for address, _ in told} == {CLIENT[0]}
