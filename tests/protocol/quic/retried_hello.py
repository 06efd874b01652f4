"""A client of aioquic's that brings no key share the server speaks, and obeys when asked for one.

aioquic itself knows no HelloRetryRequest. This changes its hello, and gives its key schedule the
transcript that RFC 8446 section 4.4.1 asks for; the rest of the handshake is aioquic's.
"""

from collections.abc import Callable, Mapping
from hashlib import new as new_hash
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer

from tests.protocol.quic.tls_support import CLIENT_PARAMETERS, Bare

SUPPORTED_GROUPS, PRE_SHARED_KEY, EARLY_DATA, KEY_SHARE = 10, 41, 42, 51
SERVER_HELLO = 2
X25519, P521 = 0x1D, 0x19
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def _extensions_at(hello: bytes) -> int:
    at = 4 + 2 + 32
    at += 1 + hello[at]
    if hello[0] == SERVER_HELLO:
        return at + 3
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    return at + 1 + hello[at]


def read_extensions(hello: bytes) -> dict[int, bytes]:
    """Return the extensions of either side's hello, in order."""
    left = hello[_extensions_at(hello) + 2 :]
    found = {}
    while left:
        size = 4 + int.from_bytes(left[2:4], "big")
        found[int.from_bytes(left[:2], "big")] = left[4:size]
        left = left[size:]
    return found


def with_extensions(hello: bytes, changes: Mapping[int, bytes | None]) -> bytes:
    """Return a client's hello with other extensions; ``None`` takes one out."""
    said = read_extensions(hello)
    last = {PRE_SHARED_KEY: said.pop(PRE_SHARED_KEY)} if PRE_SHARED_KEY in said else {}
    said |= {kind: value for kind, value in changes.items() if value is not None}  # type: ignore[misc]
    said = {
        kind: value for kind, value in said.items() if changes.get(kind, b"") is not None
    } | last
    encoded = b"".join(
        kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        for kind, value in said.items()
    )
    body = hello[4 : _extensions_at(hello)] + len(encoded).to_bytes(2, "big") + encoded
    return hello[:1] + len(body).to_bytes(3, "big") + body


def key_shares(*groups: int) -> bytes:
    """Return the value of a key_share extension, of keys that nobody has."""
    shares = b"".join(
        group.to_bytes(2, "big") + b"\0\x20" + bytes(31) + b"\x09" for group in groups
    )
    return len(shares).to_bytes(2, "big") + shares


class RetriedHello:
    """Makes a client's context bring a share of P-521 alone at first, which the server lacks.

    Arguments:
        context: The client's, before its hello.
        group: What it brings when asked.
        groups: What it says to speak.
        first_shares: The shares of its first hello, encoded; ``None`` for that of ``group``.
        binds_the_first: Whether a ticket's binder is over the first hello, too, as it must be.
        change_first: Changes the first hello.
        change_second: Changes the second.

    Attributes:
        asked: The groups it was asked for.
        offered_early_data: Whether its first hello offered some.
    """

    def __init__(
        self,
        context: tls.Context,
        *,
        group: int = X25519,
        groups: list[int] | None = None,
        first_shares: bytes | None = key_shares(P521)[2:],
        binds_the_first: bool = True,
        change_first: Callable[[bytes], bytes] = lambda hello: hello,
        change_second: Callable[[bytes], bytes] = lambda hello: hello,
    ) -> None:
        self.asked: list[int] = []
        self.offered_early_data = False
        self._context = context
        self._groups = groups or [P521, group]
        self._first_shares = first_shares
        self._binds_the_first = binds_the_first
        self._change_first, self._change_second = change_first, change_second
        self._say, self._hear = context._client_send_hello, context._client_handle_hello
        context._supported_groups = [group]  # type: ignore[list-item]
        context._client_send_hello = self._say_first  # type: ignore[method-assign]
        context._client_handle_hello = self._hear_hello  # type: ignore[method-assign]

    def _say_first(self, output: Buffer) -> None:
        plain = Buffer(capacity=4096)
        self._say(plain)
        spoken = b"".join(each.to_bytes(2, "big") for each in self._groups)
        said = read_extensions(plain.data)
        self._own_share = said[KEY_SHARE]
        self.offered_early_data = EARLY_DATA in said
        changes: dict[int, bytes | None] = {
            SUPPORTED_GROUPS: len(spoken).to_bytes(2, "big") + spoken
        }
        if self._first_shares is not None:
            size = len(self._first_shares).to_bytes(2, "big")
            changes[KEY_SHARE] = size + self._first_shares
        hello = self._change_first(with_extensions(plain.data, changes))
        self._first = self._bound(hello, b"")
        self._take_transcript(self._first)
        output.push_bytes(self._first)

    def _hear_hello(self, message: Buffer, output: Buffer) -> None:
        request = message.data_slice(0, message.capacity)
        if request[6:38] != RETRY_RANDOM:
            self._hear(message, output)
            return
        message.seek(message.capacity)
        self.asked.append(int.from_bytes(read_extensions(request)[KEY_SHARE], "big"))
        suite = int.from_bytes(request[39:41], "big")
        digest = new_hash("sha384" if suite == 0x1302 else "sha256", self._first).digest()
        before = b"\xfe\0\0" + bytes((len(digest),)) + digest + request
        hello = with_extensions(self._first, {KEY_SHARE: self._own_share, EARLY_DATA: None})
        hello = self._change_second(hello)
        hello = self._bound(hello, before if self._binds_the_first else b"")
        self._take_transcript(before + hello)
        output.push_bytes(hello)

    def _bound(self, hello: bytes, before: bytes) -> bytes:
        """Put the binder of a hello right, if it has one."""
        ticket = self._context.session_ticket
        if PRE_SHARED_KEY not in read_extensions(hello) or ticket is None:
            return hello
        schedule = tls.KeySchedule(ticket.cipher_suite)
        schedule.extract(ticket.resumption_secret)
        key = schedule.derive_secret(b"res binder")
        size = schedule.algorithm.digest_size
        schedule.update_hash(before + hello[: -size - 3])
        return hello[:-size] + schedule.finished_verify_data(key)

    def _take_transcript(self, said: bytes) -> None:
        context = self._context
        proxy = context._key_schedule_proxy = tls.KeyScheduleProxy(context._cipher_suites)
        proxy.extract(None)
        proxy.update_hash(said)
        ticket = context.session_ticket
        if ticket is not None:
            context._key_schedule_psk = tls.KeySchedule(ticket.cipher_suite)
            context._key_schedule_psk.extract(ticket.resumption_secret)
            context._key_schedule_psk.update_hash(said)


class RetriedClient(Bare):
    """A client whose hello is such a one, without QUIC.

    Arguments:
        suites: Its cipher suites.
        ticket: What to resume.
        options: See :class:`RetriedHello`.

    Attributes:
        hello: What it says.
        tickets: What it got.
    """

    def __init__(
        self,
        *,
        suites: list[tls.CipherSuite] | None = None,
        ticket: tls.SessionTicket | None = None,
        **options: Any,
    ) -> None:
        self.tickets: list[tls.SessionTicket] = []
        context = tls.Context(
            is_client=True, alpn_protocols=["h3"], server_name="example.test", verify_mode=0
        )
        if suites is not None:
            context._cipher_suites = suites
        context.session_ticket = ticket
        context.new_session_ticket_cb = self.tickets.append
        super().__init__(context, CLIENT_PARAMETERS)
        self.buffers[tls.Epoch.INITIAL] = Buffer(capacity=1 << 17)
        self.hello = RetriedHello(context, **options)
        self.start()
