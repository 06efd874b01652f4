"""Packet protection is aioquic's, the same from both providers, and refuses what it must."""

import hmac
from collections.abc import Iterator

import pytest
from aioquic.quic.crypto import CryptoContext, CryptoPair, derive_key_iv_hp, next_key_phase
from aioquic.tls import CipherSuite
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic import crypto, libcrypto
from tests.core.quic.protection import PROVIDERS, SUITES, mask_header, protect, secret_size
from tests.core.quic.vectors import CONNECTION_ID, VERSIONS

VERSION_NUMBERS = [version.number for version in VERSIONS]
suites = st.sampled_from(SUITES)
versions = st.sampled_from(VERSION_NUMBERS)
numbers = st.integers(0, 2**62 - 1)
payloads = st.one_of(st.binary(max_size=64), st.integers(0, 1500).map(bytes))


@pytest.fixture(autouse=True)
def _libcrypto() -> Iterator[None]:
    yield
    crypto.use_provider(crypto.LIBCRYPTO)


def secret_of(suite: int, seed: int) -> bytes:
    return bytes((seed + index) & 0xFF for index in range(secret_size(suite)))


def key_pair(suite: int, secret: bytes, version: int = 1) -> tuple[crypto.PacketKey, ...]:
    return tuple(crypto.packet_key(suite, version, secret, sealing=each) for each in (True, False))


@given(suites, versions, st.integers(0, 255), numbers, st.binary(max_size=64), payloads)
def test_each_provider_opens_what_the_other_sealed(
    suite: int, version: int, seed: int, number: int, header: bytes, payload: bytes
) -> None:
    secret = secret_of(suite, seed)
    keys = {}
    for name in PROVIDERS:
        crypto.use_provider(name)
        keys[name] = key_pair(suite, secret, version)
    packets = [keys[name][0].seal_bytes(number, header, payload) for name in PROVIDERS]
    assert packets[0] == packets[1]
    assert len(packets[0]) == len(payload) + 16
    for name in PROVIDERS:
        assert keys[name][1].open_bytes(number, header, packets[0]) == payload


@given(suites, versions, st.integers(0, 255), st.binary(min_size=16, max_size=16))
def test_both_providers_mask_headers_alike(
    suite: int, version: int, seed: int, sample: bytes
) -> None:
    masks = []
    for name in PROVIDERS:
        crypto.use_provider(name)
        key = crypto.header_key(suite, version, secret_of(suite, seed))
        # Twice, as a kept context must not remember the sample before.
        masks += [key.mask_bytes(sample), key.mask_bytes(bytes(16)) and key.mask_bytes(sample)]
    assert masks == [masks[0]] * 4
    assert len(masks[0]) == 5


@pytest.mark.parametrize("suite", SUITES)
def test_keys_share_a_context_until_they_are_used_much(suite: int) -> None:
    """What two keys do in turn is what the package does, before and after each has its own."""
    secrets = [secret_of(suite, seed) for seed in (1, 2)]
    ours = [(*key_pair(suite, each), crypto.header_key(suite, 1, each)) for each in secrets]
    crypto.use_provider(crypto.CRYPTOGRAPHY)
    theirs = [(*key_pair(suite, each), crypto.header_key(suite, 1, each)) for each in secrets]
    for number in range(40):
        for (seal, unseal, mask), (their_seal, _, their_mask) in zip(ours, theirs, strict=True):
            packet = seal.seal_bytes(number, b"header", b"payload")
            assert packet == their_seal.seal_bytes(number, b"header", b"payload")
            assert unseal.open_bytes(number, b"header", packet) == b"payload"
            assert unseal.open_bytes(number, b"another", packet) is None
            assert mask.mask_bytes(packet[:16]) == their_mask.mask_bytes(packet[:16])


@given(suites, versions, st.integers(0, 255), st.integers(0, 2**32 - 1), payloads)
def test_aioquic_opens_what_we_protected(
    suite: int, version: int, seed: int, number: int, payload: bytes
) -> None:
    payload += bytes(4)  # Enough to sample from (RFC 9001 section 5.4.2).
    secret = secret_of(suite, seed)
    theirs = CryptoContext()
    theirs.setup(cipher_suite=CipherSuite(suite), secret=secret, version=version)
    header = b"\x43" + CONNECTION_ID + number.to_bytes(4, "big")
    packet = protect(suite, version, secret, number, header, payload)
    assert theirs.encrypt_packet(header, payload, number) == packet
    assert theirs.decrypt_packet(packet, 9, number)[:3] == (header, payload, number)


@given(versions, st.binary(max_size=20))
def test_initial_keys_are_aioquics(version: int, connection_id: bytes) -> None:
    pair = CryptoPair()
    pair.setup_initial(connection_id, is_client=True, version=version)
    secrets = crypto.initial_secrets(version, connection_id)
    assert secrets == (pair.send.secret, pair.recv.secret)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("version", VERSION_NUMBERS)
def test_key_updates_follow_each_other_as_in_aioquic(suite: int, version: int) -> None:
    secret = secret_of(suite, 7)
    theirs = CryptoContext()
    theirs.setup(cipher_suite=CipherSuite(suite), secret=secret, version=version)
    for _ in range(3):
        theirs = next_key_phase(theirs)
        secret = crypto.next_secret(suite, version, secret)
        assert secret == theirs.secret
        header = b"\x43" + CONNECTION_ID + bytes(4)
        key = crypto.packet_key(suite, version, secret, sealing=True)
        sealed = key.seal_bytes(0, header, bytes(20))
        assert theirs.encrypt_packet(header, bytes(20), 0)[len(header) :] == sealed


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("suite", SUITES)
def test_every_changed_bit_is_found(suite: int, provider: str) -> None:
    crypto.use_provider(provider)
    sealing, opening = key_pair(suite, secret_of(suite, 1))
    header, payload = b"header", b"payload"
    packet = sealing.seal_bytes(5, header, payload)
    for index in range(len(packet) * 8):
        changed = bytearray(packet)
        changed[index // 8] ^= 1 << index % 8
        assert opening.open_bytes(5, header, changed) is None
    assert opening.open_bytes(5, b"headers", packet) is None
    assert opening.open_bytes(5, b"", packet) is None
    assert opening.open_bytes(6, header, packet) is None
    assert opening.open_bytes(5 + 2**32, header, packet) is None
    # A packet that did not authenticate leaves the kept context good for the next.
    assert opening.open_bytes(5, header, packet) == payload


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", range(16))
def test_what_is_shorter_than_a_tag_does_not_authenticate(size: int, provider: str) -> None:
    crypto.use_provider(provider)
    _, opening = key_pair(SUITES[0], secret_of(SUITES[0], 1))
    assert opening.open_bytes(0, b"header", bytes(size)) is None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_serves_one_direction(provider: str) -> None:
    crypto.use_provider(provider)
    sealing, opening = key_pair(SUITES[0], secret_of(SUITES[0], 1))
    with pytest.raises(ValueError, match="not a key to seal with"):
        opening.seal_bytes(0, b"header", b"payload")
    assert sealing.open_bytes(0, b"header", sealing.seal_bytes(0, b"header", b"payload")) is None


def test_keys_are_of_the_provider_they_were_made_with() -> None:
    sealing, _ = key_pair(SUITES[0], secret_of(SUITES[0], 1))
    packet = sealing.seal_bytes(0, b"", b"payload")
    crypto.use_provider(crypto.CRYPTOGRAPHY)
    assert sealing.seal_bytes(0, b"", b"payload") == packet
    assert crypto.provider().startswith("cryptography ")
    crypto.use_provider(crypto.LIBCRYPTO)
    assert crypto.provider().endswith("(libcrypto.so.3)")


def test_a_library_that_lacks_something_changes_nothing() -> None:
    version = libcrypto.version()
    with pytest.raises(LookupError, match=r"no libnone\.so\.9"):
        libcrypto.load("libnone.so.9")
    with pytest.raises(LookupError, match="no OpenSSL_version"):
        libcrypto.load("libm.so.6")
    assert libcrypto.version() == version
    assert key_pair(SUITES[0], secret_of(SUITES[0], 1))[0].seal_bytes(0, b"", b"")
    with pytest.raises(ValueError, match="called gnutls"):
        crypto.use_provider("gnutls")


@given(
    st.sampled_from(["sha256", "sha384"]),
    st.sampled_from(PROVIDERS),
    st.binary(max_size=64),
    st.binary(max_size=249),
    st.binary(max_size=255),
    st.integers(0, 300),
)
def test_labels_expand_as_in_cryptography(
    name: str, provider: str, secret: bytes, label: bytes, context: bytes, length: int
) -> None:
    crypto.use_provider(provider)
    algorithm = hashes.SHA256() if name == "sha256" else hashes.SHA384()
    full_label = b"tls13 " + label
    information = b"%b%c%b%c%b" % (
        length.to_bytes(2, "big"), len(full_label), full_label, len(context), context,
    )  # fmt: skip
    expected = HKDFExpand(algorithm, length, information).derive(secret) if length else b""
    assert crypto.hkdf_expand_label(name, secret, label, context, length) == expected


@pytest.mark.parametrize("name", ["sha256", "sha384"])
def test_a_key_that_was_used_before_is_not_taken_for_another(name: str) -> None:
    """A context keeps its key until there is another one."""
    keys = [bytes([number]) * 32 for number in (1, 2)]
    # The last is equal to the first, and another object.
    for key in (*keys, keys[1], keys[0], keys[0], bytes(bytearray(keys[0])), b"", b"", keys[1]):
        for text in (b"one", b"another"):
            assert crypto.hkdf_extract(name, key, text) == hmac.digest(key, text, name)


@pytest.mark.parametrize("name", ["sha256", "sha384"])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 300])
def test_a_key_longer_than_a_block_is_hashed_first(name: str, size: int) -> None:
    """RFC 2104 section 2."""
    key = bytes(range(256))[:size] + bytes(max(0, size - 256))
    for text in (b"", b"text", bytes(1000)):
        assert crypto.hkdf_extract(name, key, text) == hmac.digest(key, text, name)


@pytest.mark.parametrize(
    ("name", "label", "context", "length"),
    [
        ("sha256", bytes(250), b"", 32),
        ("sha256", b"", bytes(256), 32),
        ("sha256", b"", b"", -1),
        ("sha256", b"", b"", 0x10000),
        ("sha256", b"", b"", 255 * 32 + 1),
        ("sha1", b"", b"", 20),
    ],
)
def test_what_cannot_be_expanded_is_refused(
    name: str, label: bytes, context: bytes, length: int
) -> None:
    with pytest.raises(ValueError, match=r"longer than|no hash"):
        crypto.hkdf_expand_label(name, bytes(32), label, context, length)


def test_the_longest_expansion_is_given() -> None:
    assert len(crypto.hkdf_expand_label("sha384", bytes(48), b"x", b"", 255 * 48)) == 255 * 48


def test_limits_are_those_of_rfc_9001_section_6_6() -> None:
    assert [crypto.confidentiality_limit(suite) for suite in SUITES] == [2**23, 2**23, 2**62]
    assert [crypto.integrity_limit(suite) for suite in SUITES] == [2**52, 2**52, 2**36]


@pytest.mark.parametrize("suite", [0, 0x1300, 0x1304, 0x1305, -1])
def test_other_cipher_suites_are_refused(suite: int) -> None:
    for call in (
        lambda: crypto.packet_key(suite, 1, bytes(32), sealing=True),
        lambda: crypto.header_key(suite, 1, bytes(32)),
        lambda: crypto.next_secret(suite, 1, bytes(32)),
        lambda: crypto.PacketKey(suite, bytes(16), bytes(12), True),
        lambda: crypto.HeaderKey(suite, bytes(16)),
        lambda: crypto.confidentiality_limit(suite),
        lambda: crypto.integrity_limit(suite),
    ):
        with pytest.raises(ValueError, match="no cipher suite"):
            call()


def test_other_versions_are_refused() -> None:
    for call in (
        lambda: crypto.packet_key(SUITES[0], 0xFF00001D, bytes(32), sealing=True),
        lambda: crypto.initial_secrets(0, CONNECTION_ID),
        lambda: crypto.retry_integrity_tag(2, CONNECTION_ID, b""),
    ):
        with pytest.raises(ValueError, match="no version of QUIC"):
            call()


def test_keys_of_a_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match="another cipher suite"):
        crypto.PacketKey(SUITES[0], bytes(32), bytes(12), True)
    with pytest.raises(ValueError, match="12 bytes"):
        crypto.PacketKey(SUITES[0], bytes(16), bytes(11), True)
    with pytest.raises(ValueError, match="another cipher suite"):
        crypto.HeaderKey(SUITES[1], bytes(16))
    with pytest.raises(ValueError, match="16 bytes"):
        crypto.HeaderKey(SUITES[0], bytes(16)).mask_bytes(bytes(15))


def test_keys_are_derived_as_in_aioquic() -> None:
    """The raw keys, which make the same packets as the derived ones."""
    for suite in SUITES:
        secret = secret_of(suite, 9)
        key, iv, header_key = derive_key_iv_hp(
            cipher_suite=CipherSuite(suite), secret=secret, version=1
        )
        sealed = crypto.PacketKey(suite, key, iv, True).seal_bytes(3, b"header", bytes(32))
        packet = mask_header(crypto.HeaderKey(suite, header_key), b"\x43" + sealed, 5, 4)
        derived = key_pair(suite, secret)[0].seal_bytes(3, b"header", bytes(32))
        mask = crypto.header_key(suite, 1, secret)
        assert mask_header(mask, b"\x43" + derived, 5, 4) == packet
