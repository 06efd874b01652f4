"""A server that may say anything, without QUIC: what a test does not change is right.

Its messages are written here and its secrets come from aioquic's key schedule, so that it shares
nothing with the client it talks to.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import new as new_hash
from typing import Any, Self

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spooky.protocol.quic.tls_endpoint import APPLICATION, HANDSHAKE, INITIAL
from tests.certificates import steady_server
from tests.protocol.quic.retried_hello import RETRY_RANDOM, read_extensions
from tests.protocol.quic.support import chain_of
from tests.protocol.quic.tls_support import SERVER_PARAMETERS

SERVER_NAME, SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS, ALPN = 0, 10, 13, 16
PRE_SHARED_KEY, EARLY_DATA, SUPPORTED_VERSIONS, COOKIE, KEY_SHARE = 41, 42, 43, 44, 51
PARAMETERS = 57
GREASE = 0x4A4A
X25519, P256, P384, X448 = 0x1D, 0x17, 0x18, 0x1E
ED25519 = 0x0807
H3 = b"\0\x03\x02h3"

Extensions = Sequence[tuple[int, bytes]]
Change = Callable[[Any], Any]


def vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + vector(body, 3)


def encoded(extensions: Extensions) -> bytes:
    return vector(b"".join(kind.to_bytes(2, "big") + vector(v, 2) for kind, v in extensions), 2)


def hello(
    suite: int,
    extensions: Extensions,
    *,
    version: int = 0x0303,
    random: bytes = bytes(range(32)),
    session: bytes = b"",
    compression: int = 0,
) -> bytes:
    """Return a ServerHello."""
    body = version.to_bytes(2, "big") + random + vector(session, 1) + suite.to_bytes(2, "big")
    return message(2, body + bytes((compression,)) + encoded(extensions))


def retry(suite: int, extensions: Extensions) -> bytes:
    """Return a HelloRetryRequest."""
    return hello(suite, [(SUPPORTED_VERSIONS, b"\x03\x04"), *extensions], random=RETRY_RANDOM)


def asks_for(group: int) -> tuple[int, bytes]:
    """Return the extension of a HelloRetryRequest that asks for a share."""
    return KEY_SHARE, group.to_bytes(2, "big")


def certificate(
    chain: Sequence[bytes], *, context: bytes = b"", extensions: Extensions = ()
) -> bytes:
    """Return a Certificate."""
    entries = b"".join(vector(each, 3) + encoded(extensions) for each in chain)
    return message(11, vector(context, 1) + vector(entries, 3))


def request(
    extensions: Extensions = ((SIGNATURE_ALGORITHMS, b"\0\x02\x04\x03"),),
    context: bytes = b"",
) -> bytes:
    """Return a CertificateRequest."""
    return message(13, vector(context, 1) + encoded(extensions))


def proof(scheme: int, signature: bytes) -> bytes:
    """Return a CertificateVerify."""
    return message(15, scheme.to_bytes(2, "big") + vector(signature, 2))


def ticket(
    *,
    lifetime: int = 3600,
    age_add: int = 5,
    nonce: bytes = b"n",
    value: bytes = b"ticket",
    extensions: Extensions = (),
) -> bytes:
    """Return a NewSessionTicket."""
    numbers = lifetime.to_bytes(4, "big") + age_add.to_bytes(4, "big")
    return message(4, numbers + vector(nonce, 1) + vector(value, 2) + encoded(extensions))


class ForgedServer:
    """A server for one client.

    Arguments:
        client: Whose hello it answers.
        suite: What it chooses.
        session: What it resumes, if it does.
        changes: What to change, by message: ``hello``, ``extensions``, ``request``,
            ``certificate``, ``proof``, ``finished``. A function of the message that would be right.
        asks: A request for a certificate, if there is one.

    Attributes:
        secrets: As those of the other sides.
        before: What the transcript begins with, before the hello that is answered.
    """

    def __init__(
        self,
        client: Any,
        *,
        suite: int = 0x1301,
        session: tls.SessionTicket | None = None,
        changes: Mapping[str, Change] | None = None,
        asks: bytes | None = None,
    ) -> None:
        self.client = client
        self.suite = suite
        self.session = session
        self.changes = dict(changes or {})
        self.asks = asks
        self.secrets: list[tuple[bool, int, int, bytes]] = []
        self.before = b""
        self.chain = chain_of(steady_server())
        self._hear()

    def _hear(self) -> None:
        self.heard = self.client.take_output(INITIAL)
        self.offer = tls.pull_client_hello(Buffer(data=self.heard))

    def ask_again(self, said: bytes) -> Self:
        """Say a HelloRetryRequest, and hear the next hello."""
        digest = new_hash("sha384" if self.suite == 0x1302 else "sha256", self.heard).digest()
        self.before = b"\xfe\0\0" + vector(digest, 1) + said
        self.client.receive(INITIAL, said)
        self._hear()
        return self

    # --- messages -------------------------------------------------------------------------------

    def greet(self) -> Self:
        """Say the ServerHello."""
        group, share, shared = self._exchange()
        schedule = self.schedule = tls.KeySchedule(tls.CipherSuite(self.suite))
        schedule.extract(self.session.resumption_secret if self.session else None)
        if self.session is not None:
            self.check_binder()
        schedule.update_hash(self.before + self.heard)
        extensions = [
            (SUPPORTED_VERSIONS, b"\x03\x04"),
            (KEY_SHARE, group.to_bytes(2, "big") + vector(share, 2)),
        ]
        if self.session is not None:
            extensions.append((PRE_SHARED_KEY, b"\0\0"))
        said = self._changed("hello", hello(self.suite, extensions))
        schedule.update_hash(said)
        schedule.extract(shared)
        self.own = self._secret(True, HANDSHAKE, b"s hs traffic")
        self.theirs = self._secret(False, HANDSHAKE, b"c hs traffic")
        self.client.receive(INITIAL, said)
        return self

    def _exchange(self) -> tuple[int, bytes, bytes]:
        group, share = (self.offer.key_share or [])[0]
        if group == X25519:
            key = x25519.X25519PrivateKey.generate()
            peer = x25519.X25519PublicKey.from_public_bytes(share)
            return group, key.public_key().public_bytes_raw(), key.exchange(peer)
        if group == X448:
            long = x448.X448PrivateKey.generate()
            other = x448.X448PublicKey.from_public_bytes(share)
            return group, long.public_key().public_bytes_raw(), long.exchange(other)
        curve = tls.GROUP_TO_CURVE[group]()
        point = ec.EllipticCurvePublicKey.from_encoded_point(curve, share)
        own = ec.generate_private_key(curve)
        public = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return group, public, own.exchange(ec.ECDH(), point)

    def check_binder(self) -> None:
        """Check that the ticket is the client's (RFC 8446 section 4.2.11.2)."""
        assert self.session is not None
        schedule = tls.KeySchedule(tls.CipherSuite(self.suite))
        schedule.extract(self.session.resumption_secret)
        key = schedule.derive_secret(b"res binder")
        (binder,) = self.offer.pre_shared_key.binders  # type: ignore[union-attr]
        schedule.update_hash(self.before + self.heard[: -len(binder) - 3])
        assert binder == schedule.finished_verify_data(key)
        if self.offer.early_data:
            schedule.update_hash(self.heard[-len(binder) - 3 :])
            self.early_secret = schedule.derive_secret(b"c e traffic")

    def flight(self) -> Self:
        """Say what follows, up to Finished."""
        extensions = [(ALPN, H3), (PARAMETERS, SERVER_PARAMETERS)]
        self.say("extensions", message(8, encoded(extensions)))
        if self.session is None:
            if self.asks is not None:
                self.say("request", self.asks)
            der = self.chain.certificate.public_bytes(Encoding.DER)
            self.say("certificate", certificate([der]))
            self.say("proof", proof(ED25519, self.sign()))
        return self.finish()

    def finish(self) -> Self:
        """Say Finished."""
        self.say("finished", message(20, self.schedule.finished_verify_data(self.own)))
        return self

    def complete(self) -> Self:
        """Take the secrets of 1-RTT packets, and what the client says at the end."""
        schedule = self.schedule
        schedule.extract(None)
        self._secret(True, APPLICATION, b"s ap traffic")
        self._secret(False, APPLICATION, b"c ap traffic")
        said = self.client.take_output(HANDSHAKE)
        size = 4 + schedule.algorithm.digest_size
        self.said, finished = said[:-size], said[-size:]
        schedule.update_hash(self.said)
        assert finished == message(20, schedule.finished_verify_data(self.theirs))
        schedule.update_hash(finished)
        return self

    def resumption_secret(self, nonce: bytes) -> bytes:
        """Return the secret of a ticket."""
        algorithm = self.schedule.algorithm
        main = self.schedule.derive_secret(b"res master")
        return tls.hkdf_expand_label(algorithm, main, b"resumption", nonce, algorithm.digest_size)

    def say(self, name: str, said: bytes) -> None:
        """Say a message of the flight, changed if it is to be."""
        said = self._changed(name, said)
        self.schedule.update_hash(said)
        self.client.receive(HANDSHAKE, said)

    def sign(self, whose: bytes = b"server") -> bytes:
        """Return the signature of the transcript so far."""
        content = b" " * 64 + b"TLS 1.3, " + whose + b" CertificateVerify\0"
        content += self.schedule.hash.copy().finalize()
        return self.chain.key.sign(content)  # type: ignore[call-arg]

    def _changed(self, name: str, said: bytes) -> bytes:
        change = self.changes.get(name)
        return said if change is None else change(said)

    def _secret(self, sending: bool, level: int, label: bytes) -> bytes:
        secret = self.schedule.derive_secret(label)
        self.secrets.append((sending, level, self.suite, secret))
        return secret


def edited_hello(
    *,
    drop: Sequence[int] = (),
    add: Extensions = (),
    suite: int | None = None,
    **fields: Any,
) -> Change:
    """Return a change of a ServerHello: other fields, fewer extensions, more of them."""

    def change(said: bytes) -> bytes:
        kept = [pair for pair in read_extensions(said).items() if pair[0] not in drop]
        chosen = int.from_bytes(said[39:41], "big") if suite is None else suite
        return hello(chosen, [*kept, *add], **fields)

    return change


def session_of(secret: bytes | None = None, **changes: Any) -> tls.SessionTicket:
    """Return a session that a client may offer to resume."""
    now = tls.utcnow()
    values: dict[str, Any] = {
        "age_add": 7,
        "cipher_suite": tls.CipherSuite.AES_128_GCM_SHA256,
        "not_valid_after": now + tls.datetime.timedelta(hours=1),
        "not_valid_before": now - tls.datetime.timedelta(seconds=1),
        "resumption_secret": secret or os.urandom(32),
        "server_name": "example.test",
        "ticket": b"a ticket",
        "other_extensions": [(PARAMETERS, SERVER_PARAMETERS)],
    }
    return tls.SessionTicket(**values | changes)
