"""What no server may say, message by message, and the alert that ends it (RFC 8446, RFC 9001)."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spooky import _core
from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError
from spooky.protocol.quic.tls_endpoint import APPLICATION, HANDSHAKE, INITIAL
from tests.protocol.quic.forged_server import (
    ALPN,
    COOKIE,
    EARLY_DATA,
    ED25519,
    GREASE,
    H3,
    KEY_SHARE,
    P256,
    P384,
    PARAMETERS,
    PRE_SHARED_KEY,
    SERVER_NAME,
    SIGNATURE_ALGORITHMS,
    SUPPORTED_VERSIONS,
    X25519,
    Change,
    ForgedServer,
    asks_for,
    certificate,
    edited_hello,
    encoded,
    hello,
    message,
    proof,
    request,
    retry,
    session_of,
    ticket,
    vector,
)
from tests.protocol.quic.support import client_parameters
from tests.protocol.quic.tls_support import SERVER_PARAMETERS, Native, native_client

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

POINT = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
"""A share of P-256."""

STEP = 17
"""So many bytes apart longer messages are cut."""

DOWNGRADE = [bytes(24) + b"DOWNGRD" + last for last in (b"\0", b"\1")]
"""Randoms of a server that speaks TLS 1.3, and was made to choose an older one."""


def share(group: int, key: bytes) -> tuple[int, bytes]:
    return KEY_SHARE, group.to_bytes(2, "big") + vector(key, 2)


def extensions(*pairs: tuple[int, bytes]) -> Change:
    """Return a change to an EncryptedExtensions of these."""
    return lambda said: message(8, encoded(pairs))


def more_extensions(*pairs: tuple[int, bytes]) -> Change:
    return extensions((ALPN, H3), (PARAMETERS, SERVER_PARAMETERS), *pairs)


def replaced(*said: bytes) -> Change:
    return lambda right: b"".join(said)


def longer(said: bytes) -> bytes:
    """Return a message whose body goes on after its end."""
    return message(said[0], said[4:] + b"\0")


def refusal(act: Callable[[], object]) -> int:
    """Return the alert that an act ends in; for an error of QUIC, its code, negative."""
    with pytest.raises((TlsAlert, QuicError)) as caught:
        act()
    error = caught.value
    return error.alert if isinstance(error, TlsAlert) else -error.error_code


def a_client(**changes: Any) -> Native:
    return native_client(client_parameters(**changes))


HELLOS: dict[str, tuple[Change, Alert]] = {
    "another version in the old place": (edited_hello(version=0x0304), Alert.ILLEGAL_PARAMETER),
    "a session ID": (edited_hello(session=bytes(32)), Alert.ILLEGAL_PARAMETER),
    "a cipher suite not offered": (edited_hello(suite=0x1304), Alert.ILLEGAL_PARAMETER),
    "compression": (edited_hello(compression=1), Alert.ILLEGAL_PARAMETER),
    "no extensions at all": (
        lambda said: message(2, said[4:42] + said[42:42]),
        Alert.PROTOCOL_VERSION,
    ),
    "TLS 1.2": (edited_hello(drop=[SUPPORTED_VERSIONS]), Alert.PROTOCOL_VERSION),
    "TLS 1.2 as servers of it say it": (
        edited_hello(session=bytes(32), suite=0xC02F, drop=[43, 51], add=[(0xFF01, b"\0")]),
        Alert.PROTOCOL_VERSION,
    ),
    "a downgrade to TLS 1.1": (
        edited_hello(drop=[43], random=DOWNGRADE[0]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a downgrade to TLS 1.2": (
        edited_hello(drop=[43], random=DOWNGRADE[1]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "TLS 1.2 in the new place": (
        edited_hello(drop=[43], add=[(43, b"\x03\x03")]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "TLS 1.4": (edited_hello(drop=[43], add=[(43, b"\x03\x05")]), Alert.ILLEGAL_PARAMETER),
    "two versions": (edited_hello(drop=[43], add=[(43, b"\x03\x04\x03\x04")]), Alert.DECODE_ERROR),
    "no share": (edited_hello(drop=[KEY_SHARE]), Alert.MISSING_EXTENSION),
    "a share of a group not brought": (
        edited_hello(drop=[KEY_SHARE], add=[share(P256, POINT)]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a share of a group not offered": (
        edited_hello(drop=[KEY_SHARE], add=[share(0x19, bytes(133))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a share under the name of another group": (
        edited_hello(drop=[KEY_SHARE], add=[share(P256, b"\x09" + bytes(31))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a share too short": (
        edited_hello(drop=[KEY_SHARE], add=[share(X25519, bytes(range(31)))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a share that makes every secret the same": (
        edited_hello(drop=[KEY_SHARE], add=[share(X25519, bytes(32))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a group without a share": (
        edited_hello(drop=[KEY_SHARE], add=[asks_for(X25519)]),
        Alert.DECODE_ERROR,
    ),
    "a share twice": (edited_hello(add=[share(X25519, bytes(32))]), Alert.ILLEGAL_PARAMETER),
    "a ticket that was not offered": (
        edited_hello(add=[(PRE_SHARED_KEY, b"\0\0")]),
        Alert.UNSUPPORTED_EXTENSION,
    ),
    "early data": (edited_hello(add=[(EARLY_DATA, b"")]), Alert.UNSUPPORTED_EXTENSION),
    "a cookie": (edited_hello(add=[(COOKIE, b"\0\1c")]), Alert.UNSUPPORTED_EXTENSION),
    "an extension nobody knows": (edited_hello(add=[(GREASE, b"")]), Alert.UNSUPPORTED_EXTENSION),
    "one that was not asked for": (edited_hello(add=[(5, b"")]), Alert.UNSUPPORTED_EXTENSION),
    "a protocol in the clear": (edited_hello(add=[(ALPN, H3)]), Alert.ILLEGAL_PARAMETER),
    "parameters in the clear": (edited_hello(add=[(PARAMETERS, b"")]), Alert.ILLEGAL_PARAMETER),
    "more after its end": (longer, Alert.DECODE_ERROR),
}

RETRIES: dict[str, tuple[list[tuple[int, bytes]], Alert]] = {
    "nothing new": ([], Alert.ILLEGAL_PARAMETER),
    "the group brought": ([asks_for(X25519)], Alert.ILLEGAL_PARAMETER),
    "a group not offered": ([asks_for(0x19)], Alert.ILLEGAL_PARAMETER),
    "a share": ([share(P256, POINT)], Alert.DECODE_ERROR),
    "an empty cookie": ([(COOKIE, b"\0\0")], Alert.DECODE_ERROR),
    "a cookie that fits no hello": (
        [(COOKIE, vector(bytes(65_400), 2))],
        Alert.ILLEGAL_PARAMETER,
    ),
    "a ticket": ([asks_for(P256), (PRE_SHARED_KEY, b"\0\0")], Alert.UNSUPPORTED_EXTENSION),
    "an unknown extension": ([asks_for(P256), (GREASE, b"")], Alert.UNSUPPORTED_EXTENSION),
    "a protocol": ([asks_for(P256), (ALPN, H3)], Alert.ILLEGAL_PARAMETER),
}

RETRIED: dict[str, tuple[Change, Alert]] = {
    "another request": (replaced(retry(0x1301, [asks_for(P384)])), Alert.UNEXPECTED_MESSAGE),
    "another cipher suite": (edited_hello(suite=0x1303), Alert.ILLEGAL_PARAMETER),
    "the group of the first hello": (
        edited_hello(drop=[KEY_SHARE], add=[share(X25519, b"\x09" + bytes(31))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a compressed point": (
        edited_hello(drop=[KEY_SHARE], add=[share(P256, b"\x02" + POINT[1:33])]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a point not on the curve": (
        edited_hello(drop=[KEY_SHARE], add=[share(P256, b"\x04" + bytes(64))]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a cookie": (edited_hello(add=[(COOKIE, b"\0\1c")]), Alert.UNSUPPORTED_EXTENSION),
}

FLIGHTS: dict[str, tuple[str, Change, Alert]] = {
    "no protocol": (
        "extensions",
        extensions((PARAMETERS, SERVER_PARAMETERS)),
        Alert.NO_APPLICATION_PROTOCOL,
    ),
    "a protocol not offered": (
        "extensions",
        extensions((ALPN, b"\0\x03\x02h2"), (PARAMETERS, SERVER_PARAMETERS)),
        Alert.NO_APPLICATION_PROTOCOL,
    ),
    "two protocols": (
        "extensions",
        extensions((ALPN, b"\0\x06\x02h3\x02h3"), (PARAMETERS, SERVER_PARAMETERS)),
        Alert.ILLEGAL_PARAMETER,
    ),
    "an empty protocol": ("extensions", extensions((ALPN, b"\0\x01\0")), Alert.DECODE_ERROR),
    "an empty list of protocols": ("extensions", extensions((ALPN, b"\0\0")), Alert.DECODE_ERROR),
    "no parameters": ("extensions", extensions((ALPN, H3)), Alert.MISSING_EXTENSION),
    "parameters twice": (
        "extensions",
        more_extensions((PARAMETERS, SERVER_PARAMETERS)),
        Alert.ILLEGAL_PARAMETER,
    ),
    "early data nobody offered": (
        "extensions",
        more_extensions((EARLY_DATA, b"")),
        Alert.UNSUPPORTED_EXTENSION,
    ),
    "a server name in answer": (
        "extensions",
        more_extensions((SERVER_NAME, b"\0")),
        Alert.DECODE_ERROR,
    ),
    "groups cut short": ("extensions", more_extensions((10, b"\0\3\0\x1d\0")), Alert.DECODE_ERROR),
    "a share under protection": (
        "extensions",
        more_extensions(share(X25519, bytes(32))),
        Alert.ILLEGAL_PARAMETER,
    ),
    "signature algorithms": (
        "extensions",
        more_extensions((SIGNATURE_ALGORITHMS, b"\0\2\4\3")),
        Alert.ILLEGAL_PARAMETER,
    ),
    "the version again": (
        "extensions",
        more_extensions((SUPPORTED_VERSIONS, b"\3\4")),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a ticket nobody offered": (
        "extensions",
        more_extensions((PRE_SHARED_KEY, b"\0\0")),
        Alert.UNSUPPORTED_EXTENSION,
    ),
    "an unknown extension": (
        "extensions",
        more_extensions((GREASE, b"")),
        Alert.UNSUPPORTED_EXTENSION,
    ),
    "extensions after their end": ("extensions", longer, Alert.DECODE_ERROR),
    "no certificate in it": ("certificate", replaced(certificate([])), Alert.DECODE_ERROR),
    "an empty certificate": ("certificate", replaced(certificate([b""])), Alert.DECODE_ERROR),
    "a certificate with a context": (
        "certificate",
        replaced(certificate([b"x"], context=b"c")),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a stapled answer nobody asked for": (
        "certificate",
        replaced(certificate([b"x"], extensions=[(5, b"\1\0\0\0")])),
        Alert.UNSUPPORTED_EXTENSION,
    ),
    "a certificate that is none": (
        "certificate",
        replaced(certificate([b"x"])),
        Alert.BAD_CERTIFICATE,
    ),
    "a certificate that only one of its two readers can read": (
        "certificate",
        lambda said: said.replace(b"\x0c\x09localhost", b"\x0c\x09\xffocalhost"),
        Alert.BAD_CERTIFICATE,
    ),
    "certificates after their end": ("certificate", longer, Alert.DECODE_ERROR),
    "no certificate": ("certificate", replaced(message(20, bytes(32))), Alert.UNEXPECTED_MESSAGE),
    "a proof without certificate": (
        "certificate",
        replaced(proof(ED25519, b"")),
        Alert.UNEXPECTED_MESSAGE,
    ),
    "a second request": ("request", lambda said: said + said, Alert.UNEXPECTED_MESSAGE),
    "a late request": ("proof", replaced(request()), Alert.UNEXPECTED_MESSAGE),
    "a request with a context": (
        "certificate",
        replaced(request(context=b"c")),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a request without algorithms": (
        "certificate",
        replaced(request([])),
        Alert.MISSING_EXTENSION,
    ),
    "a request of no algorithm": (
        "certificate",
        replaced(request([(SIGNATURE_ALGORITHMS, b"\0\0")])),
        Alert.DECODE_ERROR,
    ),
    "a request that says it twice": (
        "certificate",
        replaced(request([(SIGNATURE_ALGORITHMS, b"\0\2\4\3")] * 2)),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a request with a share": (
        "certificate",
        replaced(request([(SIGNATURE_ALGORITHMS, b"\0\2\4\3"), share(X25519, bytes(32))])),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a request after its end": ("certificate", replaced(longer(request())), Alert.DECODE_ERROR),
    "no proof": ("proof", replaced(message(20, bytes(32))), Alert.UNEXPECTED_MESSAGE),
    "certificates twice": (
        "proof",
        replaced(certificate([b"x"])),
        Alert.UNEXPECTED_MESSAGE,
    ),
    "a proof by PKCS #1": (
        "proof",
        lambda said: proof(0x0401, said[8:]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a proof by SHA-1": ("proof", lambda said: proof(0x0203, said[8:]), Alert.ILLEGAL_PARAMETER),
    "a proof by nothing we know": (
        "proof",
        lambda said: proof(0x0603, said[8:]),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a proof of another curve": (
        "proof",
        lambda said: proof(0x0503, said[8:]),
        Alert.DECRYPT_ERROR,
    ),
    "a proof of another kind of key": (
        "proof",
        lambda said: proof(0x0804, said[8:]),
        Alert.DECRYPT_ERROR,
    ),
    "a forged proof": (
        "proof",
        lambda said: said[:-1] + bytes((said[-1] ^ 1,)),
        Alert.DECRYPT_ERROR,
    ),
    "an empty proof": ("proof", replaced(proof(ED25519, b"")), Alert.DECRYPT_ERROR),
    "a proof after its end": ("proof", longer, Alert.DECODE_ERROR),
    "a forged Finished": (
        "finished",
        lambda said: said[:-1] + bytes((said[-1] ^ 1,)),
        Alert.DECRYPT_ERROR,
    ),
    "a Finished too short": ("finished", lambda s: message(20, s[4:-1]), Alert.DECODE_ERROR),
    "a Finished after its end": ("finished", longer, Alert.DECODE_ERROR),
    "no Finished": ("finished", replaced(ticket()), Alert.UNEXPECTED_MESSAGE),
}

AFTERWARDS: dict[str, tuple[bytes, int]] = {
    # Of QUIC, which has a key update of its own (RFC 9001 section 6).
    "a key update": (message(24, b"\0"), Alert.UNEXPECTED_MESSAGE),
    "a hello": (message(2, b""), Alert.UNEXPECTED_MESSAGE),
    "a hello request": (message(0, b""), Alert.UNEXPECTED_MESSAGE),
    "a Finished": (message(20, bytes(32)), Alert.UNEXPECTED_MESSAGE),
    "a certificate": (certificate([b"x"]), Alert.UNEXPECTED_MESSAGE),
    "the end of early data": (message(5, b""), Alert.UNEXPECTED_MESSAGE),
    # RFC 9001 section 4.4.
    "a request": (request(), -TransportError.PROTOCOL_VIOLATION),
    "an empty ticket": (ticket(value=b""), Alert.DECODE_ERROR),
    "a ticket after its end": (longer(ticket()), Alert.DECODE_ERROR),
    # RFC 9001 section 4.6.1.
    "a ticket for some early data": (
        ticket(extensions=[(EARLY_DATA, b"\0\0\4\0")]),
        -TransportError.PROTOCOL_VIOLATION,
    ),
    "a ticket for early data twice": (
        ticket(extensions=[(EARLY_DATA, b"\xff" * 4)] * 2),
        Alert.ILLEGAL_PARAMETER,
    ),
    "a ticket that says how much in two bytes": (
        ticket(extensions=[(EARLY_DATA, b"\xff\xff")]),
        Alert.DECODE_ERROR,
    ),
    "a ticket with a share": (
        ticket(extensions=[share(X25519, bytes(32))]),
        Alert.ILLEGAL_PARAMETER,
    ),
}


@pytest.mark.parametrize("case", HELLOS)
def test_a_hello(case: str) -> None:
    change, alert = HELLOS[case]
    client = a_client()
    server = ForgedServer(client, changes={"hello": change})
    assert refusal(server.greet) == alert
    assert client.secrets == []


@pytest.mark.parametrize("case", RETRIES)
def test_a_request_for_another_hello(case: str) -> None:
    asked, alert = RETRIES[case]
    client = a_client()
    server = ForgedServer(client)
    assert refusal(lambda: server.ask_again(retry(0x1301, asked))) == alert
    assert client.take_output(INITIAL) == b""


@pytest.mark.parametrize("case", RETRIED)
def test_a_hello_after_such_a_request(case: str) -> None:
    change, alert = RETRIED[case]
    client = a_client()
    server = ForgedServer(client, changes={"hello": change})
    server.ask_again(retry(0x1301, [asks_for(P256)]))
    assert refusal(server.greet) == alert
    assert client.take_output(INITIAL) == b""
    assert client.secrets == []


@pytest.mark.parametrize("case", FLIGHTS)
def test_a_flight(case: str) -> None:
    name, change, alert = FLIGHTS[case]
    client = a_client()
    asks = request() if name == "request" else None
    server = ForgedServer(client, changes={name: change}, asks=asks).greet()
    assert refusal(server.flight) == alert
    assert not client.completed
    assert [secret[1] for secret in client.secrets] == [HANDSHAKE] * 2
    assert client.take_output(HANDSHAKE) == b""


@pytest.mark.parametrize("case", FLIGHTS)
def test_a_client_that_takes_any_certificate_reads_the_rest_as_strictly(case: str) -> None:
    """Only what proves nothing to it passes: what a certificate says, and a signature."""
    name, change, alert = FLIGHTS[case]
    client = a_client(verify=False)
    asks = request() if name == "request" else None
    server = ForgedServer(client, changes={name: change}, asks=asks).greet()
    unread = alert == Alert.BAD_CERTIFICATE or (name == "proof" and alert == Alert.DECRYPT_ERROR)
    if unread:
        server.flight().complete()
        assert client.completed
    else:
        assert refusal(server.flight) == alert


@pytest.mark.parametrize("case", AFTERWARDS)
def test_what_comes_after_the_handshake(case: str) -> None:
    said, alert = AFTERWARDS[case]
    kept: list[Any] = []
    client = a_client(on_ticket=kept.append)
    ForgedServer(client).greet().flight().complete()
    assert refusal(lambda: client.receive(APPLICATION, said)) == alert
    assert kept == []


@pytest.mark.parametrize("kind", [0, 1, 4, 5, 8, 11, 13, 15, 20, 24, 254])
def test_nothing_but_a_hello_comes_first(kind: int) -> None:
    client = a_client()
    assert refusal(lambda: client.receive(INITIAL, message(kind, b"\0"))) == (
        Alert.UNEXPECTED_MESSAGE
    )


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 11, 13, 15, 20, 24])
def test_nothing_but_extensions_come_after_it(kind: int) -> None:
    client = a_client()
    ForgedServer(client).greet()
    assert refusal(lambda: client.receive(HANDSHAKE, message(kind, b"\0"))) == (
        Alert.UNEXPECTED_MESSAGE
    )


def test_a_signature_of_a_client_proves_nothing_of_a_server() -> None:
    """What is signed begins with who signs it (RFC 8446 section 4.4.3)."""
    client = a_client()
    server = ForgedServer(client).greet()
    server.changes["proof"] = lambda said: proof(ED25519, server.sign(b"client"))
    assert refusal(server.flight) == Alert.DECRYPT_ERROR


def test_a_finished_of_the_client_s_own_proves_nothing() -> None:
    client = a_client()
    server = ForgedServer(client).greet()
    server.changes["finished"] = lambda said: message(
        20, server.schedule.finished_verify_data(server.theirs)
    )
    assert refusal(server.flight) == Alert.DECRYPT_ERROR


def test_messages_cut_short_anywhere_cannot_be_read() -> None:
    """Of each message every beginning is refused, if it says that this is all of it."""
    names = ("hello", "extensions", "request", "certificate", "proof", "finished")
    right: dict[str, bytes] = {}
    keep = {name: lambda said, name=name: right.setdefault(name, said) for name in names}
    ForgedServer(a_client(), changes=keep, asks=request()).greet().flight()
    for name in names:
        whole = right[name]
        for size in range(0, len(whole) - 4, STEP if len(whole) > 60 else 1):
            cut = message(whole[0], whole[4 : 4 + size])
            client = a_client()
            server = ForgedServer(client, changes={name: replaced(cut)}, asks=request())
            alert = refusal(lambda server=server: server.greet().flight())  # type: ignore[misc]
            # Without its extensions a hello is one of an older TLS.
            without = name == "hello" and size == 38
            assert alert == (Alert.PROTOCOL_VERSION if without else Alert.DECODE_ERROR), name


@pytest.mark.parametrize("more", [b"\x08", b"\x08\0\0\x02\0\0"], ids=["a byte", "a message"])
def test_nothing_follows_a_hello_at_its_level(more: bytes) -> None:
    """Keys change there (RFC 9001 section 4.1.3)."""
    client = a_client()
    server = ForgedServer(client, changes={"hello": lambda said: said + more})
    assert refusal(server.greet) == -TransportError.PROTOCOL_VIOLATION


@pytest.mark.parametrize("more", [b"\x04", ticket()], ids=["a byte", "a ticket"])
def test_nothing_follows_a_finished_at_its_level(more: bytes) -> None:
    client = a_client()
    server = ForgedServer(client, changes={"finished": lambda said: said + more}).greet()
    assert refusal(server.flight) == -TransportError.PROTOCOL_VIOLATION


@pytest.mark.parametrize("level", [HANDSHAKE, APPLICATION])
def test_a_hello_comes_in_initial_packets(level: int) -> None:
    client = a_client()
    said = hello(0x1301, [])
    assert refusal(lambda: client.receive(level, said)) == -TransportError.PROTOCOL_VIOLATION


def test_a_server_name_is_not_answered_that_was_not_said() -> None:
    """An address is no name (RFC 6066 section 3)."""
    client = native_client(client_parameters(verify=False), "192.0.2.1")
    changes = {"extensions": more_extensions((SERVER_NAME, b""))}
    server = ForgedServer(client, changes=changes).greet()
    assert server.offer.server_name is None
    assert refusal(server.flight) == Alert.UNSUPPORTED_EXTENSION
    named = a_client(verify=False)
    ForgedServer(named, changes=changes).greet().flight().complete()
    assert named.completed


class TestResumption:
    """What a server may not say to who offered a ticket, and 0-RTT data (RFC 8446 section 4.2)."""

    def meet(
        self, session: Any, *, suite: int = 0x1301, early_data: bool = False, **changes: Change
    ) -> tuple[Native, ForgedServer]:
        client = a_client(ticket=session, early_data=early_data)
        return client, ForgedServer(client, suite=suite, session=session, changes=changes)

    @pytest.mark.parametrize(
        ("suite", "change", "alert"),
        [
            (
                0x1301,
                edited_hello(drop=[PRE_SHARED_KEY], add=[(PRE_SHARED_KEY, b"\0\1")]),
                Alert.ILLEGAL_PARAMETER,
            ),
            (
                0x1301,
                edited_hello(drop=[PRE_SHARED_KEY], add=[(PRE_SHARED_KEY, b"\0\0\0")]),
                Alert.DECODE_ERROR,
            ),
            (0x1301, edited_hello(suite=0x1302), Alert.ILLEGAL_PARAMETER),
            (0x1301, edited_hello(drop=[KEY_SHARE]), Alert.MISSING_EXTENSION),
        ],
        ids=["another ticket", "a long number", "another hash", "without forward secrecy"],
    )
    def test_a_hello(self, suite: int, change: Change, alert: Alert) -> None:
        client, server = self.meet(session_of(), suite=suite, hello=change)
        assert refusal(server.greet) == alert
        assert not client.tls.resumed

    @pytest.mark.parametrize(
        "said",
        [request(), certificate([b"x"]), proof(ED25519, b"")],
        ids=["request", "certificate", "proof"],
    )
    def test_certificates(self, said: bytes) -> None:
        """A resumed handshake has none."""
        _, server = self.meet(session_of(), finished=replaced(said))
        assert refusal(server.greet().flight) == Alert.UNEXPECTED_MESSAGE

    def test_early_data_that_was_not_offered(self) -> None:
        session = session_of(max_early_data_size=0xFFFFFFFF)
        taken = more_extensions((EARLY_DATA, b""))
        _, server = self.meet(session, extensions=taken)
        assert refusal(server.greet().flight) == Alert.UNSUPPORTED_EXTENSION

    def test_early_data_in_another_session(self) -> None:
        session = session_of(max_early_data_size=0xFFFFFFFF)
        client = a_client(ticket=session, early_data=True)
        taken = more_extensions((EARLY_DATA, b""))
        server = ForgedServer(client, changes={"extensions": taken})
        assert refusal(server.greet().flight) == Alert.ILLEGAL_PARAMETER

    def test_early_data_under_another_cipher_suite(self) -> None:
        """Of the same hash it resumes the session, but not its early data."""
        session = session_of(max_early_data_size=0xFFFFFFFF)
        taken = more_extensions((EARLY_DATA, b""))
        _, server = self.meet(session, suite=0x1303, early_data=True, extensions=taken)
        assert refusal(server.greet().flight) == Alert.ILLEGAL_PARAMETER
        client, server = self.meet(session, suite=0x1303, early_data=True)
        server.greet().flight().complete()
        assert client.tls.resumed
        assert client.tls.early_data is False
        assert {secret[2] for secret in client.secrets[1:]} == {0x1303}

    def test_early_data_for_another_protocol(self) -> None:
        session = session_of(
            max_early_data_size=0xFFFFFFFF,
            other_extensions=[(PARAMETERS, SERVER_PARAMETERS), (ALPN, b"h2")],
        )
        taken = more_extensions((EARLY_DATA, b""))
        _, server = self.meet(session, early_data=True, extensions=taken)
        assert refusal(server.greet().flight) == Alert.ILLEGAL_PARAMETER

    def test_early_data_after_a_second_hello(self) -> None:
        session = session_of(max_early_data_size=0xFFFFFFFF)
        taken = more_extensions((EARLY_DATA, b""))
        client, server = self.meet(session, early_data=True, extensions=taken)
        server.ask_again(retry(0x1301, [asks_for(P256)])).greet()
        assert client.early_data_refused == 1
        assert refusal(server.flight) == Alert.UNSUPPORTED_EXTENSION

    def test_a_ticket_after_a_second_hello_that_could_not_repeat_it(self) -> None:
        """Its hash is not that of the cipher suite which the server named."""
        client = a_client(ticket=session_of())
        add = edited_hello(add=[(PRE_SHARED_KEY, b"\0\0")])
        server = ForgedServer(client, suite=0x1302, changes={"hello": add})
        server.ask_again(retry(0x1302, [asks_for(P256)]))
        assert server.offer.pre_shared_key is None
        assert refusal(server.greet) == Alert.UNSUPPORTED_EXTENSION
