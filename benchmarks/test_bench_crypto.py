"""What packet protection costs: the engine's with either library, and aioquic's, its twin."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from benchmarks.loops import CALLS, time_calls, time_openings, time_protections

SECRET = bytes(range(32))
SUITE = 0x1301  # TLS_AES_128_GCM_SHA256
HEADER = b"\x43" + bytes(12)
PAYLOAD = bytes(1440)
PACKET = bytearray(HEADER + PAYLOAD + bytes(16))

PROVIDERS = pytest.mark.parametrize("provider", ["libcrypto", "cryptography"])
COMPILED_SIDE = pytest.mark.parametrize("side", [pytest.param("compiled", marks=COMPILED_ONLY)])
PURE_SIDE = pytest.mark.parametrize("side", ["pure"])


@pytest.fixture
def crypto(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Return the kernel, which makes its keys with the ``provider`` of the test."""
    from spooky._core.quic import crypto

    crypto.use_provider(request.getfixturevalue("provider"))
    yield crypto
    crypto.use_provider(crypto.LIBCRYPTO)


def stock_context() -> CryptoContext:
    context = CryptoContext()
    context.setup(cipher_suite=CipherSuite(SUITE), secret=SECRET, version=1)
    return context


@COMPILED_SIDE
@PROVIDERS
def test_seal(benchmark: BenchmarkFixture, crypto: ModuleType, provider: str, side: str) -> None:
    benchmark.group = f"seal 1,440 bytes, mask the header: {provider}"
    key = crypto.packet_key(SUITE, 1, SECRET, sealing=True)
    time_protections(benchmark, key, crypto.header_key(SUITE, 1, SECRET), PACKET)


@PURE_SIDE
@pytest.mark.benchmark(group="seal 1,440 bytes, mask the header: libcrypto")
def test_seal_with_aioquic(benchmark: BenchmarkFixture, side: str) -> None:
    context = stock_context()

    def protect() -> bytes:
        return context.encrypt_packet(HEADER, PAYLOAD, 1)

    assert len(time_calls(benchmark, protect)) == len(PACKET)


@COMPILED_SIDE
@PROVIDERS
def test_open(benchmark: BenchmarkFixture, crypto: ModuleType, provider: str, side: str) -> None:
    benchmark.group = f"open 1,440 bytes: {provider}"
    sealed = crypto.packet_key(SUITE, 1, SECRET, sealing=True).seal_bytes(1, HEADER, PAYLOAD)
    key = crypto.packet_key(SUITE, 1, SECRET, sealing=False)
    assert time_openings(benchmark, key, HEADER, sealed) == CALLS * len(PAYLOAD)


@PURE_SIDE
@pytest.mark.benchmark(group="open 1,440 bytes: libcrypto")
def test_open_with_aioquic(benchmark: BenchmarkFixture, side: str) -> None:
    context = stock_context()
    sealed = context.aead.encrypt(PAYLOAD, HEADER, 1)

    def open_sealed() -> bytes:
        return context.aead.decrypt(sealed, HEADER, 1)

    assert time_calls(benchmark, open_sealed) == PAYLOAD


@COMPILED_SIDE
@PROVIDERS
def test_initial_keys(
    benchmark: BenchmarkFixture, crypto: ModuleType, provider: str, side: str
) -> None:
    benchmark.group = f"keys of one direction: {provider}"

    def derive() -> tuple[object, object]:
        return (
            crypto.packet_key(SUITE, 1, SECRET, sealing=True),
            crypto.header_key(SUITE, 1, SECRET),
        )

    time_calls(benchmark, derive)


@PURE_SIDE
@pytest.mark.benchmark(group="keys of one direction: libcrypto")
def test_initial_keys_with_aioquic(benchmark: BenchmarkFixture, side: str) -> None:
    time_calls(benchmark, stock_context)
