"""A generation: everything a request needs to know, compiled and immutable."""

from collections.abc import Callable
from dataclasses import dataclass

from spooky._core.admission import AdmissionStage
from spooky._core.balance import Balancer
from spooky._core.fields import ForwardingPolicy
from spooky._core.outcomes import Tally
from spooky._core.routes import RouteTable
from spooky._core.validate import Limits
from spooky.balancing.key import KeySource
from spooky.config.schema import Configuration
from spooky.generation.certificates import ListenerTls
from spooky.overload.retry import RetryPolicy
from spooky.upstream.excluded import ExcludedBackends
from spooky.upstream.health import BackendHealth
from spooky.upstream.pool import RequestPool


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """One backend of an upstream, as a request sees it.

    Attributes:
        id: Its name.
        scheme: ``http`` or ``https``; what its requests say.
        authority: Its own authority, for the ``upstream`` host policy.
        pool: Its connections.
        stage: Limits its requests in flight.
        tally: Counts how tries end there.
        health: What is known of whether it can serve.
    """

    id: str
    scheme: bytes
    authority: bytes
    pool: RequestPool
    stage: AdmissionStage
    tally: Tally
    health: BackendHealth


@dataclass(frozen=True, slots=True, eq=False)
class Upstream:
    """One upstream, as a request sees it; what a route leads to.

    Attributes:
        name: Its name.
        balancer: Chooses among ``backends`` by position.
        key_source: Where the balancing key comes from; ``None`` if none is used.
        backends: In the order of the configuration.
        forwarding: How requests are rewritten.
        retry: When its requests are tried again.
        stages: What a request has to pass before a backend is chosen, in this order.
        excluded: Tells which backends are not in the choice, and why.
    """

    name: str
    balancer: Balancer
    key_source: KeySource | None
    backends: tuple[Backend, ...]
    forwarding: ForwardingPolicy
    retry: RetryPolicy
    stages: tuple[AdmissionStage, ...]
    excluded: ExcludedBackends


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an exchange may take; seconds, ``None`` for no limit.

    Attributes:
        response_head: From the request, all sent, to the response head.
        first_byte: From the response head to the first byte of the body.
        response_idle: Between pieces of the response body.
        request_idle: Between pieces of the request body, and between a client's reads.
        total: The whole exchange.
        admission: How long a request may wait for a place in flight.
        admission_target: How long where the queue stands.
    """

    response_head: float
    first_byte: float
    response_idle: float
    request_idle: float
    total: float | None
    admission: float
    admission_target: float


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large bodies may be; bytes, ``None`` for no limit.

    Attributes:
        request: Largest request body.
        response: Largest response body.
        prebuffer: How much of a response of unknown length is held before its head; 0 for none.
        held_requests: Request body bytes held by all exchanges together.
    """

    request: int | None
    response: int | None
    prebuffer: int
    held_requests: int


@dataclass(frozen=True, slots=True, eq=False)
class RequestPolicy:
    """What an exchange keeps of its generation, beside its upstream, until it ends.

    Attributes:
        limits: What a request head may be.
        timeouts: How long exchanges may take.
        bodies: How large bodies may be.
        early_methods: Methods of requests that are served before the client's handshake ends.
        retry_after: Seconds that those who were shed are told to wait.
    """

    limits: Limits
    timeouts: Timeouts
    bodies: BodyLimits
    early_methods: frozenset[bytes]
    retry_after: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Generation:
    """What is in force.

    An exchange keeps its policy and its upstream, not the generation: that is freed when it is
    superseded, however long exchanges last.

    Attributes:
        number: Counts up with every change.
        configuration: What it was compiled from.
        routes: Leads to :class:`Upstream` objects.
        policy: For all requests alike.
        listener_tls: What each active listener presents and demands, in their order.
        activate: Puts what changed in force on things that were kept; call it once, when it is
            in force. Until then the generation has no effect.
        release: Gives up what the generation refers to, in force or not; call it once, with the
            seconds that the streams of removed backends have until they are cut.
    """

    number: int
    configuration: Configuration
    routes: RouteTable
    policy: RequestPolicy
    listener_tls: tuple[ListenerTls, ...]
    activate: Callable[[], None]
    release: Callable[[float], None]
