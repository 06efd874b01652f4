# cython: annotation_typing=False
"""What is in force for a request, whoever makes it, and what is known of its client.

Every request reads these, so they have C types: what is none is an object. This is the kernel's
source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Any

from spooky._core.authority import ConnectionAuthority
from spooky._core.routes import RouteTable
from spooky._core.validate import Limits

Field = tuple[bytes, bytes]


class Rates:
    """How fast a client has to be where it is waited for; bytes per second, 0 for no limit.

    Attributes:
        request: In sending a body of declared length.
        stream: In sending one of undeclared length.
        response: In taking a response.
        grace: How long a client may be waited for beyond what its bytes may take; seconds.
    """

    def __init__(self, request: float, stream: float, response: float, grace: float) -> None:
        self.request = request
        self.stream = stream
        self.response = response
        self.grace = grace


class Timeouts:
    """How long an exchange may take; seconds, ``None`` for no limit.

    Attributes:
        response_head: From the request, all sent, to the response head.
        first_byte: From the response head to the first byte of the body.
        response_idle: Between pieces of the response body.
        request_idle: Between pieces of the request body, and between a client's reads.
        total: The whole exchange.
        rates: How fast clients have to be.
        admission: How long a request may wait for a place in flight.
        admission_target: How long where the queue stands.
    """

    def __init__(
        self,
        response_head: float,
        first_byte: float,
        response_idle: float,
        request_idle: float,
        total: float | None,
        admission: float,
        admission_target: float,
        rates: Rates,
    ) -> None:
        self.response_head = response_head
        self.first_byte = first_byte
        self.response_idle = response_idle
        self.request_idle = request_idle
        self.total = total
        self.admission = admission
        self.admission_target = admission_target
        self.rates = rates


class BodyLimits:
    """How large bodies may be; bytes, ``None`` for no limit.

    Attributes:
        request: Largest request body.
        response: Largest response body.
        prebuffer: How much of a response of unknown length is held before its head; 0 for none.
        held_requests: Request body bytes held by all exchanges together.
    """

    def __init__(
        self, request: int | None, response: int | None, prebuffer: int, held_requests: int
    ) -> None:
        self.request = request
        self.response = response
        self.prebuffer = prebuffer
        self.held_requests = held_requests


class RequestPolicy:
    """What an exchange keeps of its generation, beside its upstream, until it ends.

    Attributes:
        limits: What a request head may be.
        timeouts: How long exchanges may take.
        bodies: How large bodies may be.
        early_methods: Methods of requests that are served before the client's handshake ends.
        retry_after: Seconds that those who were shed are told to wait.
    """

    def __init__(
        self,
        limits: Limits,
        timeouts: Timeouts,
        bodies: BodyLimits,
        early_methods: frozenset[bytes],
        retry_after: int,
    ) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self.bodies = bodies
        self.early_methods = early_methods
        self.retry_after = retry_after


class InForce:
    """What a request head is looked up in; see ``generation/generation.py``.

    Attributes:
        number: Counts up with every change.
        policy: For all requests alike.
        routes: Leads to upstreams.
    """

    def __init__(self, number: int, policy: RequestPolicy, routes: RouteTable) -> None:
        self.number = number
        self.policy = policy
        self.routes = routes


class Client:
    """A client connection, as its exchanges know it.

    Attributes:
        address: The client's IP address as text, IPv6 without brackets.
        port: The client's port.
        version: ``HTTP_1``, ``HTTP_2`` or ``HTTP_3`` of the validate kernel.
        connection_id: The QUIC connection ID it began with; empty on TCP.
        response_fields: Fields added to every response, such as ``alt-svc``.
        hop: The connection's address, also where ``address`` is of whom it passed a request on for.
        is_early: Whether the handshake is not complete: a request that comes now was sent in 0-RTT
            data, and may be a replay.
        proxies: Says where the client of each request is, if the client of the connection is a
            proxy that is believed; else ``None``; see ``request/client_address.py``.
        covered: The hosts that the connection is good for; ``None`` for all.
    """

    def __init__(
        self,
        address: bytes,
        port: int,
        version: int,
        connection_id: bytes,
        response_fields: tuple[Field, ...],
        hop: bytes,
        is_early: bool = False,
        proxies: Any = None,
        covered: ConnectionAuthority | None = None,
    ) -> None:
        self.address = address
        self.port = port
        self.version = version
        self.connection_id = connection_id
        self.response_fields = response_fields
        self.hop = hop
        self.is_early = is_early
        self.proxies = proxies
        self.covered = covered

    def of_request(self, fields: list[Field]) -> "Client":
        """Return the client of a request that a believed proxy passed on.

        Arguments:
            fields: The request's.
        """
        peer = self.address.decode(), self.port
        found = self.proxies.client_of(peer, fields)
        if found == peer:
            return self
        return Client(
            found[0].encode(), found[1], self.version, self.connection_id, self.response_fields,
            self.hop, self.is_early, self.proxies, self.covered,
        )  # fmt: skip
