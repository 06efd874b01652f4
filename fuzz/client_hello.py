"""The hellos of clients, as TLS reads them from their first packets.

What aioquic makes of the same extensions, each taken alone, is the oracle.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer

from spooky import _core

PULLERS: dict[str, tuple[int, Callable[[Buffer], Any]]] = {
    "server_name": (0, tls.pull_server_name),
    "supported_groups": (10, lambda data: tuple(tls.pull_list(data, 2, data.pull_uint16))),
    "signature_schemes": (13, lambda data: tuple(tls.pull_list(data, 2, data.pull_uint16))),
    "protocols": (16, lambda data: tls.pull_list(data, 2, partial(tls.pull_opaque, data, 1))),
    "versions": (43, lambda data: tuple(tls.pull_list(data, 1, data.pull_uint16))),
    "psk_modes": (45, lambda data: tls.pull_opaque(data, 1)),
    "key_shares": (51, lambda data: tls.pull_list(data, 2, partial(tls.pull_key_share, data))),
    "transport_parameters": (57, lambda data: data.pull_bytes(data.capacity)),
}
"""Attributes of ours, with the extension they come from and how aioquic reads its value."""


def seeds() -> Iterator[bytes]:
    """Yield hellos of aioquic's, of several lengths, without and with a ticket."""
    for protocols in (["h3"], ["h3", "hq-interop"], ["x" * 200]):
        for ticket in (None, tls.OfferedPsks([(bytes(64), 1000)], [bytes(range(32))])):
            hello = tls.ClientHello(
                random=bytes(32),
                legacy_session_id=b"",
                cipher_suites=[0x1301, 0x1302, 0x1303],
                legacy_compression_methods=[0],
                alpn_protocols=protocols,
                early_data=ticket is not None,
                key_share=[(0x1D, bytes(range(32)))],
                pre_shared_key=ticket,
                psk_key_exchange_modes=[1],
                server_name="example.test",
                signature_algorithms=[0x0403, 0x0804],
                supported_groups=[0x1D, 0x17],
                supported_versions=[0x0304],
                other_extensions=[(0x39, b"\x01\x02\x40\x64"), (0x4A4A, b"")],
            )
            buffer = Buffer(capacity=2048)
            tls.push_client_hello(buffer, hello)
            yield buffer.data


def extensions_of(data: bytes) -> dict[int, bytes]:
    """Return the extensions of a hello that was read."""
    buffer = Buffer(data=data)
    buffer.seek(4 + 2 + 32)
    for size in (1, 2, 1):
        tls.pull_opaque(buffer, size)
    buffer = Buffer(data=tls.pull_opaque(buffer, 2))
    found: dict[int, bytes] = {}
    while not buffer.eof():
        kind = buffer.pull_uint16()
        found[kind] = tls.pull_opaque(buffer, 2)
    return found


def run(data: bytes) -> None:
    """Read a hello in both ways."""
    if not _core.COMPILED:
        return  # Only the native engine reads hellos itself.
    from spooky._core.quic.client_hello import parse_client_hello
    from spooky._core.quic.errors import TlsAlert

    try:
        ours = parse_client_hello(data)
    except TlsAlert:
        return
    extensions = extensions_of(data)
    for name, (kind, pull) in PULLERS.items():
        value = extensions.get(kind)
        if value is None:
            assert getattr(ours, name) is None
            continue
        buffer = Buffer(data=value)
        assert getattr(ours, name) == pull(buffer), name
        assert buffer.eof(), name
    assert ours.early_data is (42 in extensions)
    assert (ours.identities is None) is (41 not in extensions)
    if ours.identities is not None and ours.binders is not None:
        offered = tls.pull_offered_psks(Buffer(data=extensions[41]))
        assert ours.identities == offered.identities
        assert ours.binders == offered.binders
        assert ours.binders_at == len(data) - 2 - sum(1 + len(each) for each in ours.binders)
