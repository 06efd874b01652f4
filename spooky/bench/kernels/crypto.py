"""What packet protection costs: the engine's with either library, and aioquic's, its twin."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite

from spooky._core import COMPILED
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import CALLS, calls

SECRET: Final = bytes(range(32))
SUITE: Final = 0x1301  # TLS_AES_128_GCM_SHA256
HEADER: Final = b"\x43" + bytes(12)
PAYLOAD: Final = bytes(1440)
SEALED_SIZE: Final = len(HEADER + PAYLOAD) + 16

LIBCRYPTO: Final = "libcrypto"
PROVIDERS: Final = (LIBCRYPTO, "cryptography")


def _stock_context() -> CryptoContext:
    context = CryptoContext()
    context.setup(cipher_suite=CipherSuite(SUITE), secret=SECRET, version=1)
    return context


def _with(provider: str) -> Callable[[], None]:
    """Have the engine's keys made by a library; return what sets it back."""
    from spooky._core.quic import crypto

    crypto.use_provider(provider)
    return partial(crypto.use_provider, LIBCRYPTO)


def _seal(provider: str) -> Work:
    if not COMPILED:
        protect = partial(_stock_context().encrypt_packet, HEADER, PAYLOAD, 1)
        return calls(lambda sealed: len(sealed) == SEALED_SIZE, _plain(protect))
    from spooky._core.quic.crypto import header_key, packet_key
    from spooky.bench import kernel_loops

    back = _with(provider)
    arguments = (
        packet_key(SUITE, 1, SECRET, sealing=True),
        header_key(SUITE, 1, SECRET),
        bytearray(HEADER + PAYLOAD + bytes(16)),
        CALLS,
    )
    return Work(
        run=partial(kernel_loops.protections, *arguments),
        right=lambda count: bool(count == CALLS),
        calls=CALLS,
        bare=partial(kernel_loops.no_protections, *arguments),
        close=back,
    )


def _open(provider: str) -> Work:
    if not COMPILED:
        aead = cast(Any, _stock_context().aead)
        opened = partial(aead.decrypt, aead.encrypt(PAYLOAD, HEADER, 1), HEADER, 1)
        return calls(lambda payload: bool(payload == PAYLOAD), _plain(opened))
    from spooky._core.quic.crypto import packet_key
    from spooky.bench import kernel_loops

    back = _with(provider)
    sealed = packet_key(SUITE, 1, SECRET, sealing=True).seal_bytes(1, HEADER, PAYLOAD)
    arguments = (packet_key(SUITE, 1, SECRET, sealing=False), HEADER, sealed, CALLS)
    return Work(
        run=partial(kernel_loops.openings, *arguments),
        right=lambda size: bool(size == CALLS * len(PAYLOAD)),
        calls=CALLS,
        bare=partial(kernel_loops.no_openings, *arguments),
        close=back,
    )


def _derive(provider: str) -> Work:
    if not COMPILED:
        return calls(lambda context: context is not None, _stock_context)
    from dataclasses import replace

    from spooky._core.quic.crypto import header_key, packet_key

    def derive() -> tuple[object, object]:
        return packet_key(SUITE, 1, SECRET, sealing=True), header_key(SUITE, 1, SECRET)

    back = _with(provider)
    return replace(calls(lambda keys: len(keys) == 2, derive), close=back)


def _plain(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return a Python function, as its callers in aioquic are."""

    def call() -> Any:
        return function()

    return call


CASES: Final = tuple(
    Case(f"{name}: {provider}", partial(prepare, provider), compiled_only=provider != LIBCRYPTO)
    for name, prepare in (
        ("seal 1,440 bytes, mask the header", _seal),
        ("open 1,440 bytes", _open),
        ("keys of one direction", _derive),
    )
    for provider in PROVIDERS
)
"""aioquic, too, calls libcrypto."""
