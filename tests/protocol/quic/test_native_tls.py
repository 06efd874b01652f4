"""TLS between two sides without QUIC, in random pieces (RFC 8446, RFC 9001 section 4).

The scenarios in tests/scenario/test_tls.py prove the same of whole connections.
"""

import io
from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spooky import _core
from spooky._core.quic.errors import QuicError, TlsAlert, TransportError
from spooky.protocol.quic.aioquic_tls import HANDSHAKE_MESSAGE_MAX
from spooky.protocol.quic.certificates import CertificateSelector, ClientVerifier
from spooky.protocol.quic.key_exchange import exchange_keys
from spooky.protocol.quic.server_verifier import ServerVerifier
from spooky.protocol.quic.tls_endpoint import APPLICATION, HANDSHAKE, INITIAL
from tests.certificates import PrivateKey, ca, client_leaf, expired_client, leaf, shared_ca
from tests.protocol.quic.support import (
    chain_of,
    client_parameters,
    identity_of,
    server_parameters,
)
from tests.protocol.quic.tls_support import (
    CLIENT_PARAMETERS,
    SERVER_PARAMETERS,
    Bare,
    Native,
    exchange,
    mirrored,
    native_client,
    native_server,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

CLIENTS = ca("Client root")
REQUIRED = ClientVerifier([CLIENTS.certificate], required=True)
OPTIONAL = ClientVerifier([CLIENTS.certificate], required=False)


def bare_client(**changes: object) -> Bare:
    context = tls.Context(
        is_client=True, alpn_protocols=["h3"], server_name="example.test", verify_mode=0
    )
    for name, value in changes.items():
        setattr(context, name, value)
    return Bare(context, CLIENT_PARAMETERS)


def bare_server(**changes: object) -> Bare:
    context = tls.Context(is_client=False, alpn_protocols=["h3"])
    chain = server_parameters().certificates.chains[0]
    context.certificate = chain.certificate
    context.certificate_private_key = chain.key
    for name, value in changes.items():
        setattr(context, name, value)
    return Bare(context, SERVER_PARAMETERS)


def a_client(**changes: Any) -> Native:
    return native_client(client_parameters(**changes))


def a_server(**changes: Any) -> Native:
    return native_server(server_parameters(**changes))


def handshake(
    client: Native | Bare | None = None, server: Native | Bare | None = None, seed: int = 0
) -> tuple[Native, Native]:
    """Make two sides of ours, or those given, shake hands."""
    client = client or a_client()
    server = server or a_server()
    exchange(client, server, seed)
    return client, server  # type: ignore[return-value]


def without_extension(hello: bytes, kind: int) -> bytes:
    """Return a hello that lacks an extension."""
    # Header, version, random; session ID, cipher suites and compression methods have lengths.
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    kept, left = b"", hello[at + 2 :]
    while left:
        length = 4 + int.from_bytes(left[2:4], "big")
        if int.from_bytes(left[:2], "big") != kind:
            kept += left[:length]
        left = left[length:]
    body = hello[4:at] + len(kept).to_bytes(2, "big") + kept
    return hello[:1] + len(body).to_bytes(3, "big") + body


def alert_of(client: Native | Bare, server: Native | Bare) -> int:
    """Expect our side to end the handshake, and return the alert."""
    with pytest.raises(TlsAlert) as caught:
        exchange(client, server)
    assert caught.value.phrase == str(caught.value)
    return caught.value.alert


class TestHandshake:
    @pytest.mark.parametrize("seed", range(10))
    def test_both_sides_agree_whatever_the_pieces(self, seed: int) -> None:
        client, server = handshake(seed=seed)
        assert mirrored(client.secrets) == {*server.secrets}
        assert client.completed == server.completed == 1
        assert client.peer_parameters == SERVER_PARAMETERS
        assert server.peer_parameters == CLIENT_PARAMETERS
        for side in (client, server):
            assert side.tls.alpn == "h3"
            assert side.tls.server_name == "example.test"
            assert not side.tls.resumed
            assert side.tls.early_data is None
            assert side.tls.client_certificate is None

    def test_secrets_come_as_soon_as_they_are_known(self) -> None:
        """Each side can send at a level before it can receive there (RFC 9001 section 4.1.4)."""
        client, server = handshake()
        assert [secret[:2] for secret in server.secrets] == [
            (True, HANDSHAKE),
            (False, HANDSHAKE),
            (True, APPLICATION),
            (False, APPLICATION),
        ]
        assert [secret[:2] for secret in client.secrets] == [
            (False, HANDSHAKE),
            (True, HANDSHAKE),
            (False, APPLICATION),
            (True, APPLICATION),
        ]

    @pytest.mark.parametrize("seed", range(5))
    def test_our_client_agrees_with_aioquics_server(self, seed: int) -> None:
        client, server = a_client(), bare_server()
        exchange(client, server, seed)
        assert mirrored(server.secrets) == {*client.secrets}
        assert client.completed == 1
        assert client.peer_parameters == SERVER_PARAMETERS

    @pytest.mark.parametrize("suite", [*tls.CIPHER_SUITES])
    @pytest.mark.parametrize("seed", range(3))
    def test_our_server_agrees_with_aioquics_client(
        self, seed: int, suite: tls.CipherSuite
    ) -> None:
        client, server = (
            bare_client(_cipher_suites=[suite]).start(),
            a_server(),
        )
        exchange(client, server, seed)
        assert mirrored(client.secrets) == {*server.secrets}
        assert {secret[2] for secret in server.secrets} == {suite}
        assert client.context.state is tls.State.CLIENT_POST_HANDSHAKE
        assert server.completed == 1
        assert server.peer_parameters == CLIENT_PARAMETERS

    def test_a_client_offers_the_groups_it_is_told_to_and_a_share_of_the_first(self) -> None:
        groups = (tls.Group.X25519, tls.Group.SECP256R1)
        client = a_client(groups=groups)
        # Not built without a compiler.
        from spooky._core.quic.client_hello import parse_client_hello

        hello = parse_client_hello(client.take_output(INITIAL))
        assert hello.supported_groups == groups
        assert hello.key_shares is not None
        assert [group for group, _ in hello.key_shares] == [tls.Group.X25519]
        client, server = handshake(a_client(groups=groups[1:]))
        assert client.completed == server.completed == 1

    @pytest.mark.parametrize("group", [*tls.Context(is_client=True)._supported_groups])
    def test_every_group_is_taken(self, group: int) -> None:
        client, server = (
            bare_client(_supported_groups=[group]).start(),
            a_server(),
        )
        exchange(client, server)
        assert server.completed == 1

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=["P-256", "P-384", "Ed25519", "RSA"],
    )
    def test_every_usual_key_signs(self, key: PrivateKey) -> None:
        served = identity_of(leaf(["example.test"], shared_ca(), key=key))
        _, server = handshake(
            a_client(authorities=shared_ca().certificate_pem),
            a_server(certificates=CertificateSelector({}, served)),
        )
        assert server.completed == 1

    def test_secrets_are_logged_for_packet_captures(self) -> None:
        logs = io.StringIO(), io.StringIO()
        client, _ = handshake(
            a_client(secrets_log=logs[0]),
            a_server(secrets_log=logs[1]),
        )
        lines = [{*log.getvalue().splitlines()} for log in logs]
        assert lines[0] == lines[1]
        assert {line.split()[0] for line in lines[0]} == {
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
        }
        assert {line.split()[2] for line in lines[0]} == {s[3].hex() for s in client.secrets}
        assert len({line.split()[1] for line in lines[0]}) == 1


class TestBounds:
    @pytest.mark.parametrize("side", ["client", "server"])
    def test_a_message_too_large_is_not_waited_for(self, side: str) -> None:
        """Attack 12: a header can announce 16 MiB."""
        tls_side = a_client() if side == "client" else a_server()
        with pytest.raises(QuicError) as caught:
            tls_side.receive(INITIAL, b"\x01" + HANDSHAKE_MESSAGE_MAX.to_bytes(3, "big"))
        assert caught.value.error_code == TransportError.CRYPTO_BUFFER_EXCEEDED

    def test_data_at_another_level_is_refused(self) -> None:
        """RFC 9001 section 4.1.3."""
        server = a_server()
        with pytest.raises(QuicError) as caught:
            server.receive(HANDSHAKE, b"\x01")
        assert caught.value.error_code == TransportError.PROTOCOL_VIOLATION

    def test_data_after_the_last_message_of_a_level_is_refused(self) -> None:
        """RFC 9001 section 4.1.3."""
        client, server = a_client(), a_server()
        with pytest.raises(QuicError) as caught:
            server.receive(INITIAL, client.take_output(INITIAL) + b"\x01")
        assert caught.value.error_code == TransportError.PROTOCOL_VIOLATION

    def test_no_data_is_nothing(self) -> None:
        server = a_server()
        server.receive(APPLICATION, b"")
        assert server.take_output(INITIAL) == b""


class TestRefusals:
    @pytest.mark.parametrize("kind", [0, 2, 8, 11, 20, 24])
    def test_a_server_takes_only_a_hello_first(self, kind: int) -> None:
        server = a_server()
        with pytest.raises(TlsAlert) as caught:
            server.receive(INITIAL, bytes((kind, 0, 0, 0)))
        assert caught.value.alert == tls.AlertDescription.unexpected_message

    @pytest.mark.parametrize("kind", [1, 4, 24])
    def test_nothing_follows_the_handshake_of_a_client(self, kind: int) -> None:
        """QUIC has a key update of its own (RFC 9001 section 6)."""
        _, server = handshake()
        with pytest.raises(TlsAlert) as caught:
            server.receive(APPLICATION, bytes((kind, 0, 0, 1, 0)))
        assert caught.value.alert == tls.AlertDescription.unexpected_message

    def test_a_hello_cut_short_is_a_decode_error(self) -> None:
        hello = a_client().take_output(INITIAL)
        for length in range(0, len(hello) - 4, 7):
            server = a_server()
            with pytest.raises(TlsAlert) as caught:
                server.receive(INITIAL, b"\x01" + length.to_bytes(3, "big") + hello[4 : 4 + length])
            assert caught.value.alert == tls.AlertDescription.decode_error

    def test_a_hello_without_parameters_is_refused(self) -> None:
        """missing_extension (RFC 9001 section 8.2)."""
        client = bare_client()
        client.context.handshake_extensions = []
        assert alert_of(client.start(), a_server()) == tls.AlertDescription.missing_extension

    def test_a_server_without_parameters_is_refused(self) -> None:
        server = bare_server()
        server.context.handshake_extensions = []
        assert alert_of(a_client(), server) == tls.AlertDescription.missing_extension

    def test_a_session_id_is_refused(self) -> None:
        """RFC 9001 section 8.4."""
        client = bare_client(legacy_session_id=bytes(32)).start()
        with pytest.raises(QuicError) as caught:
            exchange(client, a_server())
        assert caught.value.error_code == TransportError.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("side", ["client", "server"])
    def test_an_error_about_parameters_passes_unchanged(self, side: str) -> None:
        client, server = a_client(), a_server()
        refusing = client if side == "client" else server
        error = QuicError(TransportError.TRANSPORT_PARAMETER_ERROR, 0x06, "twice")

        def refuse(encoded: bytes) -> bytes | None:
            raise error

        refusing.on_peer_parameters = refuse  # type: ignore[method-assign]
        with pytest.raises(QuicError) as caught:
            exchange(client, server)
        assert caught.value is error

    def test_a_protocol_nobody_speaks_is_refused(self) -> None:
        """RFC 9001 section 8.1."""
        client = a_client(alpn=("h2",))
        assert alert_of(client, a_server()) == tls.AlertDescription.no_application_protocol

    def test_a_name_nobody_serves_is_refused(self) -> None:
        """RFC 6066 section 3."""
        identity = identity_of(leaf(["a.test"], shared_ca()))
        selector = CertificateSelector({"a.test": identity}, None, strict=True)
        server = a_server(certificates=selector)
        assert alert_of(a_client(), server) == tls.AlertDescription.unrecognized_name

    @pytest.mark.parametrize(
        ("offer", "alert"),
        [
            ({"_cipher_suites": [0x1304]}, tls.AlertDescription.handshake_failure),
            ({"_supported_versions": [0x0303]}, tls.AlertDescription.protocol_version),
            ({"_signature_algorithms": [0x0806]}, tls.AlertDescription.handshake_failure),
            ({"_supported_groups": [tls.Group.GREASE]}, tls.AlertDescription.handshake_failure),
            ({"_legacy_compression_methods": [1]}, tls.AlertDescription.illegal_parameter),
            ({"_legacy_compression_methods": [1, 0]}, tls.AlertDescription.illegal_parameter),
            ({"_legacy_compression_methods": [0, 0]}, tls.AlertDescription.illegal_parameter),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_nothing_in_common_is_refused(
        self, offer: dict[str, list[int]], alert: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tls, "KeyScheduleProxy", lambda suites: tls.KeySchedule(0x1301))
        client = bare_client(**offer).start()
        assert alert_of(client, a_server()) == alert

    @pytest.mark.parametrize("left_out", [10, 51], ids=["supported_groups", "key_share"])
    def test_neither_groups_nor_shares_come_alone(self, left_out: int) -> None:
        """RFC 8446 section 9.2."""
        hello = without_extension(a_client().take_output(INITIAL), left_out)
        with pytest.raises(TlsAlert) as caught:
            a_server().receive(INITIAL, hello)
        assert caught.value.alert == tls.AlertDescription.missing_extension

    @pytest.mark.parametrize(
        ("group", "curve"),
        [(0x0017, ec.SECP256R1()), (0x0018, ec.SECP384R1())],
        ids=["P-256", "P-384"],
    )
    def test_a_point_in_another_form_is_refused(self, group: int, curve: ec.EllipticCurve) -> None:
        """RFC 8446 section 4.2.8.2 knows uncompressed ones only."""
        public = ec.generate_private_key(curve).public_key()
        forms = [
            public.public_bytes(Encoding.X962, form)
            for form in (PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint)
        ]
        assert exchange_keys([(group, forms[0])])[0] == group
        for share in (forms[1], bytes((6 | forms[0][-1] & 1,)) + forms[0][1:], b"\0", b""):
            with pytest.raises(TlsAlert) as caught:
                exchange_keys([(group, share)])
            assert caught.value.alert == tls.AlertDescription.illegal_parameter

    def test_a_server_without_the_key_is_refused_unless_any_certificate_will_do(self) -> None:
        other = {"certificate_private_key": ec.generate_private_key(ec.SECP256R1())}
        judging = a_client(authorities=shared_ca().certificate_pem)
        assert alert_of(judging, bare_server(**other)) == tls.AlertDescription.decrypt_error
        assert judging.completed == 0
        verifier = ServerVerifier(shared_ca().certificate_pem, checks_name=True)
        alone = a_client(verify=False, verifier=verifier)
        assert alert_of(alone, bare_server(**other)) == tls.AlertDescription.decrypt_error
        careless, _ = handshake(a_client(verify=False), bare_server(**other))
        assert careless.completed == 1

    @pytest.mark.parametrize(
        ("name", "alert"),
        [
            ("other.test", tls.AlertDescription.bad_certificate),
            ("example.test", tls.AlertDescription.unknown_ca),
        ],
    )
    def test_a_client_verifies_the_server(self, name: str, alert: int) -> None:
        """The right name from an authority not trusted, and a wrong name."""
        authority = shared_ca() if name == "other.test" else ca("Unknown root")
        selector = CertificateSelector({}, identity_of(leaf([name], authority)))
        client = a_client(authorities=shared_ca().certificate_pem)
        server = a_server(certificates=selector)
        assert alert_of(client, server) == alert
        assert client.completed == 0

    def test_a_forged_finished_is_refused(self) -> None:
        client, server = a_client(), a_server()
        server.receive(INITIAL, client.take_output(INITIAL))
        client.receive(INITIAL, server.take_output(INITIAL))
        client.receive(HANDSHAKE, server.take_output(HANDSHAKE))
        finished = bytearray(client.take_output(HANDSHAKE))
        finished[-1] ^= 1
        with pytest.raises(TlsAlert) as caught:
            server.receive(HANDSHAKE, bytes(finished))
        assert caught.value.alert == tls.AlertDescription.decrypt_error
        assert server.completed == 0
        assert (False, APPLICATION) not in [secret[:2] for secret in server.secrets]


class TestClientCertificate:
    def pair(self, verifier: ClientVerifier | None, certificate: object) -> tuple[Native, Native]:
        return (
            a_client(certificate=certificate),
            a_server(client_verifier=verifier),
        )

    @pytest.mark.parametrize("verifier", [REQUIRED, OPTIONAL], ids=["required", "optional"])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_good_one_is_reported(self, verifier: ClientVerifier, seed: int) -> None:
        alice = client_leaf("alice", ca("Client intermediate", issuer=CLIENTS))
        _, server = handshake(*self.pair(verifier, chain_of(alice)), seed=seed)
        assert server.completed == 1
        assert server.tls.client_certificate == alice.der

    @pytest.mark.parametrize(
        ("make", "alert"),
        [
            (lambda: client_leaf("mallory", ca("Other")), tls.AlertDescription.unknown_ca),
            (lambda: expired_client("alice", CLIENTS), tls.AlertDescription.certificate_expired),
            (lambda: None, tls.AlertDescription.certificate_required),
        ],
        ids=["unknown authority", "expired", "none"],
    )
    def test_another_is_refused(self, make: Callable[[], object], alert: int) -> None:
        made = make()
        client, server = self.pair(REQUIRED, chain_of(made) if made else None)  # type: ignore[arg-type]
        assert alert_of(client, server) == alert
        assert server.completed == 0

    def test_none_is_nobody_where_it_is_optional(self) -> None:
        _, server = handshake(*self.pair(OPTIONAL, None))
        assert server.completed == 1
        assert server.tls.client_certificate is None

    def test_one_without_its_key_is_refused(self) -> None:
        alice, mallory = client_leaf("alice", CLIENTS), client_leaf("mallory", CLIENTS)
        context = bare_client(certificate=alice.certificate, certificate_private_key=mallory.key)
        server = a_server(client_verifier=REQUIRED)
        assert alert_of(context.start(), server) == tls.AlertDescription.decrypt_error

    def test_one_nobody_asked_for_is_not_sent(self) -> None:
        client, server = self.pair(None, chain_of(client_leaf("alice", CLIENTS)))
        handshake(client, server)
        assert server.tls.client_certificate is None
