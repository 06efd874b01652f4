"""Our hellos to a TLS server that is not ours and not of the tests: OpenSSL's, over records of TCP.

It knows no transport parameters, so the handshake ends with its EncryptedExtensions. That this can
be read at all proves that both sides have the same transcript and the same secrets.
"""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from spooky import _core
from spooky._core.quic.errors import Alert, TlsAlert
from spooky.protocol.quic.tls_endpoint import HANDSHAKE, INITIAL
from tests.certificates import steady_server
from tests.protocol.quic.support import client_parameters
from tests.protocol.quic.tls_support import Native, native_client

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

HANDSHAKE_RECORD, PROTECTED_RECORD = 0x16, 0x17
RECORD_HEADER = 5
TLS_AES_128, TLS_AES_256, TLS_CHACHA20 = 0x1301, 0x1302, 0x1303


class OpenSslServer:
    """A server of one group.

    Attributes:
        greetings: How many messages it said that are not protected.
    """

    def __init__(self, curve: str, directory: Path) -> None:
        files = directory / "chain.pem", directory / "key.pem"
        files[0].write_bytes(steady_server().certificate_pem)
        files[1].write_bytes(steady_server().key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*files)
        context.set_ecdh_curve(curve)
        context.set_alpn_protocols(["h3"])
        self.greetings = 0
        self._heard, self._said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._heard, self._said, server_side=True)

    def answer(self, client: Native) -> list[bytes]:
        """Hear a client's hello; return the records of what is protected, if it goes that far."""
        said = client.take_output(INITIAL)
        self._heard.write(b"\x16\x03\x01" + len(said).to_bytes(2, "big") + said)
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        answer, protected = self._said.read(), []
        while answer:
            end = RECORD_HEADER + int.from_bytes(answer[3:5])
            if answer[0] == HANDSHAKE_RECORD:
                self.greetings += 1
                client.receive(INITIAL, answer[RECORD_HEADER:end])
            elif answer[0] == PROTECTED_RECORD:
                protected.append(answer[:end])
            answer = answer[end:]
        return protected


def opened(record: bytes, suite: int, secret: bytes) -> bytes:
    """Return the handshake messages of the first record under a secret (RFC 8446 section 5.2)."""
    from spooky._core.quic.crypto import hkdf_expand_label

    name = "sha384" if suite == TLS_AES_256 else "sha256"
    key = hkdf_expand_label(name, secret, b"key", b"", 16 if suite == TLS_AES_128 else 32)
    iv = hkdf_expand_label(name, secret, b"iv", b"", 12)
    cipher = ChaCha20Poly1305(key) if suite == TLS_CHACHA20 else AESGCM(key)
    header, sealed = record[:RECORD_HEADER], record[RECORD_HEADER:]
    inside = cipher.decrypt(iv, sealed, header).rstrip(b"\0")
    assert inside[-1] == HANDSHAKE_RECORD
    return inside[:-1]


@pytest.mark.parametrize(
    ("curve", "group", "greetings"),
    [("X25519", 0x1D, 1), ("prime256v1", 0x17, 2), ("secp384r1", 0x18, 2), ("X448", 0x1E, 2)],
)
def test_one_of_another_group_asks_for_it_and_takes_the_second_hello(
    curve: str, group: int, greetings: int, tmp_path: Path
) -> None:
    client = native_client(client_parameters())
    server = OpenSslServer(curve, tmp_path)
    protected = server.answer(client) or server.answer(client)
    assert server.greetings == greetings
    assert client.tls._group == group  # type: ignore[attr-defined]
    ((_, level, suite, secret),) = (each for each in client.secrets if not each[0])
    assert level == HANDSHAKE
    with pytest.raises(TlsAlert) as caught:
        client.receive(HANDSHAKE, opened(protected[0], suite, secret))
    assert caught.value.alert == Alert.MISSING_EXTENSION
    assert client.tls.alpn == "h3"
