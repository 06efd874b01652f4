"""A server's flight and secrets are those of aioquic's context; messages are cut at any place."""

import dataclasses
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky._core.quic import crypto
from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError
from spooky._core.quic.handshake import NativeTls, ServerHandshake
from spooky._core.quic.key_schedule import KeySchedule
from tests.core.quic.protection import SUITES

INITIAL, HANDSHAKE, APPLICATION = range(3)
MESSAGE_MAX = 64 * 1024

SERVER_SIGNATURE = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"

Secret = tuple[bool, int, int, bytes]


class Events:
    """Remembers what TLS told."""

    def __init__(self) -> None:
        self.secrets: list[Secret] = []
        self.completed = 0

    def on_secret(self, *secret: Any) -> None:
        self.secrets.append(secret)

    def on_handshake_complete(self) -> None:
        self.completed += 1


class Server(ServerHandshake):
    """Decides nothing: what is said is in what it was made with."""

    def __init__(self, said: "Said") -> None:
        self.events = Events()
        super().__init__(self.events, None)
        self.said = said
        self.calls: list[str] = []

    def _on_hello(self, message: bytes) -> None:
        said = self.said
        schedule = self._schedule = KeySchedule(said.suite, said.ticket)
        schedule.update(message)
        self.alpn = said.alpn
        self.resumed = said.ticket is not None
        self.early_data = said.early
        self._send_hello(said.group, said.share, said.shared)
        self._send_flight(said.parameters, said.certificates, said.scheme, self.sign)
        self._level = HANDSHAKE
        self._expect = tls.HandshakeType.FINISHED

    def sign(self, content: bytes) -> bytes:
        self.signed = content
        return self.said.signature

    def _complete(self) -> None:
        assert not self.events.completed
        self.calls.append("complete")


@dataclasses.dataclass(frozen=True)
class Said:
    """What a handshake consists of."""

    suite: int
    ticket: bytes | None
    hello: bytes
    alpn: str
    group: int
    share: bytes
    shared: bytes
    parameters: bytes
    scheme: int
    signature: bytes
    early: bool | None

    @property
    def certificates(self) -> bytes | None:
        return None if self.ticket is not None else b"\x0b\0\0\x04\0\0\0\0"


handshakes = st.builds(
    Said,
    suite=st.sampled_from(SUITES),
    ticket=st.none() | st.binary(min_size=48, max_size=48),
    hello=st.binary(max_size=300).map(lambda body: b"\x01" + len(body).to_bytes(3, "big") + body),
    alpn=st.text("h3-", min_size=1, max_size=255),
    group=st.integers(0, 0xFFFF),
    share=st.binary(max_size=140),
    shared=st.binary(min_size=32, max_size=56),
    parameters=st.binary(max_size=300),
    scheme=st.integers(0, 0xFFFF),
    signature=st.binary(max_size=600),
    early=st.sampled_from([None, False, True]),
)


class Reference:
    """The same handshake with aioquic's messages and key schedule."""

    def __init__(self, said: Said, random: bytes) -> None:
        self.schedule = tls.KeySchedule(tls.CipherSuite(said.suite))
        self.schedule.extract(said.ticket)
        self.schedule.update_hash(said.hello)
        self.secrets: list[Secret] = []
        hello = tls.ServerHello(
            random=random,
            legacy_session_id=b"",
            cipher_suite=said.suite,
            compression_method=0,
            key_share=(said.group, said.share),
            pre_shared_key=0 if said.ticket is not None else None,
            supported_version=0x0304,
        )
        self.initial = self.push(tls.push_server_hello, hello)
        self.schedule.extract(said.shared)
        suite = said.suite
        server, client = map(self.schedule.derive_secret, (b"s hs traffic", b"c hs traffic"))
        self.secrets += [(True, HANDSHAKE, suite, server), (False, HANDSHAKE, suite, client)]
        extensions = tls.EncryptedExtensions(
            alpn_protocol=said.alpn,
            early_data=False,
            other_extensions=[(0x39, said.parameters)] + ([(42, b"")] if said.early else []),
        )
        self.handshake = self.push(tls.push_encrypted_extensions, extensions)
        if said.certificates is not None:
            self.schedule.update_hash(said.certificates)
            self.handshake += said.certificates
            self.content = SERVER_SIGNATURE + self.schedule.hash.copy().finalize()
            verify = tls.CertificateVerify(algorithm=said.scheme, signature=said.signature)
            self.handshake += self.push(tls.push_certificate_verify, verify)
        self.handshake += self.finished(server)
        assert self.schedule.generation == 2
        self.schedule.extract(None)
        server, application = map(self.schedule.derive_secret, (b"s ap traffic", b"c ap traffic"))
        self.secrets += [(True, APPLICATION, suite, server)]
        self.answer = self.finished(client)
        self.secrets += [(False, APPLICATION, suite, application)]

    def finished(self, secret: bytes) -> bytes:
        return self.push(
            tls.push_finished, tls.Finished(self.schedule.finished_verify_data(secret))
        )

    def push(self, push: Any, message: Any) -> bytes:
        buffer = Buffer(capacity=4096)
        push(buffer, message)
        self.schedule.update_hash(buffer.data)
        return buffer.data


@settings(max_examples=300, deadline=None)
@given(handshakes)
def test_the_flight_and_all_secrets_are_aioquics(said: Said) -> None:
    server = Server(said)
    server.receive(INITIAL, said.hello)
    hello, flight = server.take_output(INITIAL), server.take_output(HANDSHAKE)
    theirs = Reference(said, hello[6:38])
    assert hello == theirs.initial
    assert flight == theirs.handshake
    if said.ticket is None:
        assert server.signed == theirs.content
    assert server.events.secrets == theirs.secrets[:3]
    server.receive(HANDSHAKE, theirs.answer)
    assert server.events.secrets == theirs.secrets
    assert (server.events.completed, server.calls) == (1, ["complete"])
    assert server.take_output(APPLICATION) == b""


@settings(max_examples=300, deadline=None)
@given(handshakes, st.data())
def test_any_other_finished_is_refused_with_aioquics_alert(said: Said, data: st.DataObject) -> None:
    """In aioquic's context a length that is wrong is one of decoding, too."""
    server = Server(said)
    server.receive(INITIAL, said.hello)
    right = Reference(said, server.take_output(INITIAL)[6:38]).answer
    wrong = bytearray(right)
    wrong[data.draw(st.integers(4, len(right) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TlsAlert) as alert:
        server.receive(HANDSHAKE, bytes(wrong))
    assert alert.value.alert == tls.AlertDecryptError.description == Alert.DECRYPT_ERROR
    body = right[4:] + b"x" if data.draw(st.booleans()) else right[4:-1]
    server = Server(said)
    server.receive(INITIAL, said.hello)
    with pytest.raises(TlsAlert) as alert:
        server.receive(HANDSHAKE, b"\x14" + len(body).to_bytes(3, "big") + body)
    assert alert.value.alert == Alert.DECODE_ERROR
    assert not server.events.completed


@pytest.mark.parametrize("kind", [0, 2, 4, 8, 11, 15, 20, 24, 255])
def test_what_does_not_come_next_is_unexpected(kind: int) -> None:
    server = Server(handshakes_example())
    with pytest.raises(TlsAlert) as alert:
        server.receive(INITIAL, bytes((kind, 0, 0, 1, 0)))
    assert alert.value.alert == Alert.UNEXPECTED_MESSAGE


def handshakes_example() -> Said:
    return Said(
        crypto.TLS_AES_128_GCM_SHA256, None, b"\x01\0\0\0", "h3", 29, bytes(32), bytes(32), b"",
        0x0403, bytes(70), None,
    )  # fmt: skip


def test_what_is_too_long_for_a_vector_is_not_written() -> None:
    said = handshakes_example()
    for changes in (
        {"share": bytes(0x10000)},
        {"parameters": bytes(0x10000)},
        {"signature": bytes(0x10000)},
        {"alpn": "h" * 256},
    ):
        with pytest.raises(OverflowError):
            Server(dataclasses.replace(said, **changes)).receive(INITIAL, said.hello)


class Cutter(NativeTls):
    """Takes messages; the level changes after one that begins with a byte of its choice."""

    def __init__(self) -> None:
        super().__init__(Events(), None, is_client=False)
        self.messages: list[bytes] = []

    def _handle(self, message: bytes) -> None:
        self.messages.append(message)
        if message[0] == 0xFF:
            self._level += 1

    def receive_all(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.receive(INITIAL, piece)


bodies = st.binary(max_size=40) | st.sampled_from([300, 5000]).map(bytes)
message_lists = st.lists(st.tuples(st.integers(0, 0xFE), bodies), max_size=6)


def framed(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


@given(message_lists, st.lists(st.integers(0, 200), max_size=60))
def test_messages_are_cut_at_any_place(parts: list[tuple[int, bytes]], sizes: list[int]) -> None:
    messages = [framed(*part) for part in parts]
    data = b"".join(messages)
    cutter = Cutter()
    for size in sizes:
        cutter.receive(INITIAL, data[:size])
        data = data[size:]
    cutter.receive(INITIAL, data)
    assert cutter.messages == messages


@given(bodies, st.binary(min_size=1, max_size=8), st.integers(0, 300))
def test_nothing_may_follow_a_level_s_last_message(body: bytes, more: bytes, at: int) -> None:
    data = framed(0xFF, body) + more
    cutter = Cutter()
    with pytest.raises(QuicError) as error:
        cutter.receive_all(data[:at], data[at:])
    assert error.value.error_code == TransportError.PROTOCOL_VIOLATION
    assert cutter.messages == [framed(0xFF, body)]


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_message_announced_as_too_long_is_refused_at_its_header(cut: int) -> None:
    head = b"\x01" + (MESSAGE_MAX - 3).to_bytes(3, "big")
    cutter = Cutter()
    with pytest.raises(QuicError) as error:
        cutter.receive_all(head[:cut], head[cut:])
    assert error.value.error_code == TransportError.CRYPTO_BUFFER_EXCEEDED
    fits = b"\x01" + (MESSAGE_MAX - 4).to_bytes(3, "big")
    cutter = Cutter()
    cutter.receive(INITIAL, fits + bytes(MESSAGE_MAX - 5))
    assert not cutter.messages
    cutter.receive(INITIAL, b"x")
    assert [len(message) for message in cutter.messages] == [MESSAGE_MAX]


def test_what_is_said_at_a_level_is_taken_once() -> None:
    cutter = Cutter()
    for level in (INITIAL, HANDSHAKE, APPLICATION):
        cutter._send(level, b"one")
        cutter._send(level, b"two")
    for level in (INITIAL, HANDSHAKE, APPLICATION):
        assert cutter.take_output(level) == b"onetwo"
        assert cutter.take_output(level) == b""
