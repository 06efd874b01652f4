"""The ``performance`` section: limits, timeouts, windows and buffers."""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from spooky.config.fields import (
    MAX_BYTES,
    MAX_MILLISECONDS,
    Bytes,
    Count,
    Milliseconds,
    Section,
    described,
)

SOCKET_BUFFER_MIN: Final = 65_536  # one datagram of the largest size must fit
SOCKET_BUFFER_MAX: Final = 1 << 30  # SO_RCVBUF is a 32-bit int and the kernel doubles it
WINDOW_MIN: Final = 16_384  # one HTTP/2 frame of the usual size must fit
WINDOW_MAX: Final = (1 << 31) - 1  # RFC 9113 section 6.9.1; QUIC would allow more
DNS_INTERVAL_MIN: Final = 100  # ms: resolvers answer from a cache meanwhile
STREAMS_MAX: Final = 65_536  # far above any client's use; bounds the table of one connection
SOURCE_RULES_MAX: Final = 4_096  # a look-up costs the same for any number; this bounds a reload
WORKERS_MAX: Final = 128  # a connection ID has a byte for the slot, and an upgrade doubles them

SocketBuffer: TypeAlias = Annotated[
    int, Meta(ge=SOCKET_BUFFER_MIN, le=SOCKET_BUFFER_MAX, extra={"unit": "bytes"})
]
Window: TypeAlias = Annotated[int, Meta(ge=WINDOW_MIN, le=WINDOW_MAX, extra={"unit": "bytes"})]
RetryPolicy: TypeAlias = Literal["never", "auto", "always"]
CongestionControl: TypeAlias = Literal["cubic", "reno"]


class Performance(Section, frozen=True):
    """Limits, timeouts, flow-control windows and buffers.

    Every limit counts for the whole machine, whatever the number of workers.
    """

    quic_engine: Annotated[
        Literal["auto", "native", "aioquic"],
        described(
            "The QUIC implementation: `native` is compiled, `aioquic` pure Python; `auto` is "
            "`native` where the kernels are compiled."
        ),
    ] = "auto"

    worker_threads: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=WORKERS_MAX)],
        described(
            "Worker processes that `spooky serve` runs; `auto` for one on each core it may use. An "
            "embedded proxy is one worker in its own process."
        ),
    ] = 1

    # --- sockets and connections --------------------------------------------------------------
    udp_recv_buffer_bytes: Annotated[
        SocketBuffer,
        described(
            "Receive buffer asked of the kernel for each UDP socket.",
            hazard="The kernel caps it at net.core.rmem_max without an error; a small buffer drops "
            "datagrams under bursts.",
        ),
    ] = 8_388_608
    udp_send_buffer_bytes: Annotated[
        SocketBuffer,
        described(
            "Send buffer asked of the kernel for each UDP socket.",
            hazard="The kernel caps it at net.core.wmem_max without an error.",
        ),
    ] = 8_388_608
    max_active_connections: Annotated[
        Count,
        described(
            "Client connections open at once, QUIC and TCP counted apart; more are refused. Per "
            "machine.",
            hazard="Each TCP connection takes a file descriptor: raise that limit too.",
        ),
    ] = 20_000
    max_half_open_connections: Annotated[
        Count,
        described(
            "Client connections whose handshake is under way at once, QUIC and TCP counted apart; "
            "more are refused. Per machine. Bounds what a flood of handshakes can hold."
        ),
    ] = 2_048
    new_connections_per_sec: Annotated[
        Count,
        described(
            "Rate of new client connections from everywhere; per machine.", unit="connections/s"
        ),
    ] = 2_000
    new_connections_burst: Annotated[
        Count,
        described("New connections taken at once above the rate, from everywhere; per machine."),
    ] = 500
    new_connections_per_source_per_sec: Annotated[
        Count,
        described(
            "Rate of new client connections from one source: an IPv4 address or an IPv6 /64; per "
            "machine.",
            unit="connections/s",
            hazard="Clients behind one address translator or load balancer are one source.",
        ),
    ] = 200
    new_connections_per_source_burst: Annotated[
        Count,
        described("New connections taken at once above the rate, from one source; per machine."),
    ] = 200
    quic_retry: Annotated[
        RetryPolicy,
        described(
            "Whether a QUIC client has to prove its address before it gets a connection, unless a "
            "token of an earlier connection does (Retry, RFC 9000 section 8.1). `auto` asks for it "
            "while a quarter of `max_half_open_connections` is taken or half of "
            "`new_connections_per_sec` is tried, and until it has been calm for 5 s.",
            hazard="`always` costs each new client a round trip; `never` lets forged addresses "
            "take half-open connections, up to their limit.",
        ),
    ] = "auto"
    source_rules: Annotated[
        tuple[str, ...],
        Meta(max_length=SOURCE_RULES_MAX),
        described(
            "What becomes of new connections by where their packets come from, as they come, "
            "before anything is kept for them: each rule is an action and a network, such as "
            "`drop 192.0.2.0/24`, and the first that matches holds. `drop`: nothing is answered. "
            "`retry`: a QUIC client has to prove its address. `allow`: it never has to, "
            "and no rule after this one holds. What has a connection keeps it.",
            hazard="Sources of UDP packets can be forged: a rule that drops a network can be made "
            "to look like its fault. Behind a proxy or balancer, its address is the source.",
        ),
    ] = ()
    quic_congestion_control: Annotated[
        CongestionControl,
        described(
            "What decides how fast responses are sent to a QUIC client: `cubic` (RFC 9438), which "
            "gives up less after a loss and sooner has it back, or `reno` (RFC 9002 section 7)."
        ),
    ] = "cubic"
    client_head_timeout_ms: Annotated[
        Milliseconds,
        described(
            "Time a client on TCP has for its TLS handshake, and again for each complete request "
            "head from its first byte; a slower one is disconnected. Also the time for a QUIC "
            "handshake."
        ),
    ] = 10_000
    shutdown_drain_timeout_ms: Annotated[
        Milliseconds,
        described("Time that requests in flight have to finish at shutdown, before all is closed."),
    ] = 5_000

    # --- QUIC and HTTP/2 flow control ---------------------------------------------------------
    quic_max_idle_timeout_ms: Annotated[
        Milliseconds,
        described(
            "A client connection with no traffic for so long is closed: QUIC by its idle timeout, "
            "HTTP/2 and HTTP/1.1 when no request is in flight."
        ),
    ] = 30_000
    quic_initial_max_data: Annotated[
        Window,
        described(
            "Flow-control window that a client connection begins with: request-body bytes, of all "
            "its streams together, that may have arrived and that no backend has yet taken. It "
            "grows with the speed of the transfer. Holds for HTTP/3 and HTTP/2.",
            hazard="With a window no larger than one stream's, one stalled upload stalls every "
            "other upload of the connection.",
        ),
    ] = 1_048_576
    quic_initial_max_stream_data: Annotated[
        Window,
        described(
            "Flow-control window that a request stream begins with: bytes of its body that may "
            "have arrived and that the backend has not yet taken. It grows with the speed of the "
            "transfer. Holds for HTTP/3 and HTTP/2.",
        ),
    ] = 262_144
    quic_initial_max_streams_bidi: Annotated[
        int,
        Meta(ge=1, le=STREAMS_MAX),
        described(
            "Requests that one client connection may have in flight. Holds for HTTP/3 and HTTP/2.",
        ),
    ] = 100

    # --- backends -----------------------------------------------------------------------------
    h2_pool_max_idle_per_backend: Annotated[
        Count,
        described("Idle connections, of any protocol, kept open to one backend, by each worker."),
    ] = 256
    h2_pool_idle_timeout_ms: Annotated[
        Milliseconds,
        described(
            "An idle connection to a backend, of any protocol, is closed after this time.",
            hazard="A backend that closes idle connections sooner makes requests race its close.",
        ),
    ] = 90_000
    backend_dns_refresh_enabled: Annotated[
        bool,
        described(
            "Look the names of backends up again and again. Connections to an address that a name "
            "has no more take no new requests; the others stay as they are.",
            hazard="With names that answer with a changing part of their addresses, connections "
            "come and go: switch it off.",
        ),
    ] = True
    backend_dns_refresh_interval_ms: Annotated[
        int,
        Meta(ge=DNS_INTERVAL_MIN, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described("How often; how long an answer holds is not known to who asks the system."),
    ] = 30_000
    backend_connect_timeout_ms: Annotated[
        Milliseconds,
        described("Time to connect to a backend, TLS handshake included; then 504."),
    ] = 500
    backend_timeout_ms: Annotated[
        Milliseconds,
        described(
            "Time a backend has to begin its response, once it has taken the whole request; "
            "then 504.",
            hazard="Slow endpoints (reports, long polling) need more than the default.",
        ),
    ] = 2_000
    backend_body_idle_timeout_ms: Annotated[
        Milliseconds,
        described(
            "Longest pause between two pieces of a response body (then the response is cut off), "
            "or in which a backend takes nothing of a request body (then 504).",
            hazard="Server-sent events with rarer events than this need a larger value.",
        ),
    ] = 60_000
    backend_body_total_timeout_ms: Annotated[
        Milliseconds,
        described(
            "Time from the response head to the first byte of its body; after that the idle "
            "timeout alone rules."
        ),
    ] = 30_000
    backend_total_request_timeout_ms: Annotated[
        Milliseconds | None,
        described(
            "Time for a whole exchange, both bodies included; null for no such limit.",
            hazard="Cuts off long downloads, event streams and gRPC streams.",
        ),
    ] = None
    client_body_idle_timeout_ms: Annotated[
        Milliseconds,
        described(
            "Longest time a client may stall: between two pieces of its request body (then 408), "
            "or in reading the response (then the stream is reset; whether anything was read is "
            "looked at as often as that)."
        ),
    ] = 60_000
    client_min_request_bytes_per_sec: Annotated[
        Count | None,
        described(
            "Slowest rate of a request body of declared length (`content-length`), beyond "
            "`client_rate_grace_ms`; a slower one gets 408. Counted only while Spooky waits for "
            "the client, from the first byte of the body to the response. Null for no such limit.",
            unit="bytes/s",
        ),
    ] = 240
    client_min_stream_bytes_per_sec: Annotated[
        Count | None,
        described(
            "The same for a request body of undeclared length. It may be a stream that is silent "
            "for long, as those of gRPC are: by default the idle timeout alone rules. Set it where "
            "no client streams.",
            unit="bytes/s",
            hazard="Ends streams of clients that have little to say.",
        ),
    ] = None
    client_min_response_bytes_per_sec: Annotated[
        Count | None,
        described(
            "Slowest rate at which a client may take a response, beyond `client_rate_grace_ms`; "
            "the stream of a slower one is reset. Counted only while there is something ready that "
            "the client does not take: long polls and event streams are not slow. Null for no such "
            "limit.",
            unit="bytes/s",
        ),
    ] = 240
    client_rate_grace_ms: Annotated[
        Milliseconds,
        described(
            "How much longer than its bytes may take a client may be waited for in all, at the "
            "beginning and again after it was fast."
        ),
    ] = 60_000

    # --- admission ----------------------------------------------------------------------------
    global_inflight_limit: Annotated[
        Count, described("Requests in flight, all together; more get 503. Per machine.")
    ] = 4_096
    per_upstream_inflight_limit: Annotated[
        Count, described("Requests in flight to one upstream; more get 503. Per machine.")
    ] = 1_024
    per_backend_inflight_limit: Annotated[
        Count,
        described("Requests in flight to one backend; more get 503. Per machine."),
    ] = 1_024
    inflight_acquire_wait_ms: Annotated[
        int,
        Meta(ge=0, le=MAX_MILLISECONDS, extra={"unit": "ms"}),
        described(
            "Time a request waits for a place in flight before it is refused, less under pressure "
            "(`resilience.route_queue.target_ms`); 0 refuses at once.",
        ),
    ] = 50

    # --- bodies -------------------------------------------------------------------------------
    max_request_body_bytes: Annotated[
        Bytes | None,
        described("Largest request body; a larger one gets 413. Null for no such limit."),
    ] = None
    max_response_body_bytes: Annotated[
        Bytes | None,
        described(
            "Largest response body: a larger one gets 503 if its length is declared, else it is "
            "cut off. Null for no such limit."
        ),
    ] = None
    unknown_length_response_prebuffer_bytes: Annotated[
        int,
        Meta(ge=0, le=MAX_BYTES, extra={"unit": "bytes"}),
        described(
            "Bytes of a response of undeclared length held back before its head is sent; a longer "
            "one gets 503. 0 streams every response as it comes.",
            hazard="Anything but 0 breaks event streams, gRPC and large downloads.",
        ),
    ] = 0
    request_buffer_global_cap_bytes: Annotated[
        Bytes,
        described(
            "Request-body bytes held at once, of all exchanges together; when they are full, new "
            "requests with a body are refused with 503. Per machine."
        ),
    ] = 67_108_864
    retry_buffer_global_cap_bytes: Annotated[
        Bytes,
        described(
            "Request-body bytes kept at once to be sent again, of all exchanges together (see "
            "`resilience.retry.body_max_bytes`); when they are full, no more are kept. Per machine."
        ),
    ] = 33_554_432
