"""One check of a backend: a connection of its own, and an answer or none."""

import asyncio
from typing import Final

from spooky._core import reasons
from spooky._core.carrier import Carrier
from spooky._core.reasons import Reason
from spooky.config.health import HealthCheck, parse_statuses
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.stream import Field, Stream
from spooky.runtime import Runtime
from spooky.runtime.byte_transport import CarriedProtocol
from spooky.upstream.dial import DialError, DialSettings, Resolve, dial
from spooky.upstream.pool import Pool, PoolSettings
from spooky.upstream.quic import Http3Settings

BODY_MAX: Final = 65_536
"""So much of a body is looked through; a check is no download."""

USER_AGENT: Final = b"spooky-health-check"

GRPC_PATH: Final = b"/grpc.health.v1.Health/Check"
GRPC_SERVING: Final = b"\x08\x01"
"""``HealthCheckResponse{status: SERVING}``: field 1, a varint, 1."""

_GRPC_FRAME_HEAD: Final = 5  # compressed flag and length


class CheckError(Exception):
    """A check failed; says why."""


class CheckInconclusive(Exception):  # noqa: N818 - it is no error
    """A check says neither that the backend can serve nor that it cannot."""


async def probe(
    check: HealthCheck,
    dial_settings: DialSettings,
    runtime: Runtime,
    resolve: Resolve,
    http3: Http3Settings,
) -> None:
    """Check a backend once, within its timeout.

    Arguments:
        check: What to ask, and what the answer has to be.
        dial_settings: How to connect.
        runtime: Whose loop to use.
        resolve: Gives the backend's addresses.
        http3: How HTTP/3 connections behave.

    Raises:
        CheckError: The backend cannot serve; says why.
        CheckInconclusive: It answered what says neither.
    """
    seconds = check.timeout_ms / 1000
    try:
        async with asyncio.timeout(seconds):
            if check.type == "tcp":
                await _connect(dial_settings, runtime, resolve, seconds)
            else:
                # Nothing is kept: a check tells whether the backend accepts connections, too.
                settings = PoolSettings(0, seconds, seconds, Http1Limits(), Http2Limits(), http3)
                await _ask(check, Pool(runtime, dial_settings, settings, resolve))
    except TimeoutError as error:
        raise CheckError(f"no answer within {check.timeout_ms} ms") from error


async def _connect(
    dial_settings: DialSettings, runtime: Runtime, resolve: Resolve, seconds: float
) -> None:
    connected: list[asyncio.BaseTransport] = []

    class Connected(CarriedProtocol):
        carrier = Carrier(runtime)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connected.append(transport)

    try:
        await dial(dial_settings, resolve, runtime, Connected, seconds)
    except DialError as error:
        raise CheckError(error.detail) from error
    finally:
        for transport in connected:
            transport.close()


async def _ask(check: HealthCheck, pool: Pool) -> None:
    question = _Question(check, pool.dial_settings)
    pool.request(question)
    try:
        await question.answered
    finally:
        question.give_up()
        pool.cancel(question)
        pool.close(0.0)


class _Question:
    """The request of a check, as the caller of a pool."""

    def __init__(self, check: HealthCheck, dial_settings: DialSettings) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._check = check
        self._origin = dial_settings.origin
        self._stream: Stream | None = None
        self._status = 0
        self._grpc_status: bytes | None = None
        self._body = b""

    def give_up(self) -> None:
        """Want no more of it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset(reasons.COMPLETED)

    # --- the pool's upcalls -------------------------------------------------------------------

    def on_connected(self, stream: Stream, reused: bool) -> None:
        """Ask."""
        self._stream = stream
        is_grpc = self._check.type == "grpc"
        fields = [
            (b":method", b"POST" if is_grpc else b"GET"),
            (b":scheme", self._origin.scheme.encode()),
            (b":authority", self._origin.authority),
            (b":path", GRPC_PATH if is_grpc else self._check.path.encode()),
            (b"user-agent", USER_AGENT),
        ]
        if is_grpc:
            fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        stream.send_head(fields, not is_grpc)
        if is_grpc:
            stream.send_data(grpc_request(self._check.grpc_service), True)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """Fail."""
        self._fail(detail or reason.text)

    # --- the stream's upcalls -----------------------------------------------------------------

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Take the response head."""
        found = dict(fields)
        self._status = int(found.get(b":status", b"0"))
        self._grpc_status = found.get(b"grpc-status")
        if end:
            self._judge()

    def on_informational(self, fields: list[Field]) -> None:
        """Wait for the final head."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Take as much of the body as is looked at."""
        self._body += data[: BODY_MAX - len(self._body)]
        if self._stream is not None:
            self._stream.consume(len(data))
        if end or len(self._body) >= BODY_MAX:
            self._judge()

    def on_trailers(self, fields: list[Field]) -> None:
        """Take the end."""
        self._grpc_status = dict(fields).get(b"grpc-status", self._grpc_status)
        self._judge()

    def on_reset(self, reason: Reason) -> None:
        """Fail."""
        self._stream = None
        self._fail(reason.text)

    def on_stopped(self) -> None:
        """Do nothing: an answer may still come."""

    def on_writable(self) -> None:
        """Do nothing: all was sent."""

    # --- judging ------------------------------------------------------------------------------

    def _judge(self) -> None:
        try:
            if self._check.type == "grpc":
                judge_grpc(self._status, self._grpc_status, self._body)
            else:
                judge_http(self._check, self._status, self._body)
        except (CheckError, CheckInconclusive) as error:
            self._end(error)
        else:
            self._end(None)

    def _fail(self, detail: str) -> None:
        self._end(CheckError(detail))

    def _end(self, error: Exception | None) -> None:
        if self.answered.done():
            return
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


def judge_http(check: HealthCheck, status: int, body: bytes) -> None:
    """Tell whether a response means that the backend can serve.

    Raises:
        CheckError: It means that it cannot.
        CheckInconclusive: It means neither.
    """
    expected = [statuses for text in check.expected_status if (statuses := parse_statuses(text))]
    if expected and not any(status in statuses for statuses in expected):
        raise CheckError(f"status {status}, not {' or '.join(check.expected_status)}")
    if not expected and status >= 500:
        raise CheckError(f"status {status}")
    if not expected and status >= 400:
        raise CheckInconclusive(f"status {status}")
    if check.expected_body is not None and check.expected_body.encode() not in body:
        raise CheckError(f"{check.expected_body!r} is not in the body")


def judge_grpc(status: int, grpc_status: bytes | None, body: bytes) -> None:
    """Tell whether the answer of ``grpc.health.v1.Health`` means that the backend can serve.

    Raises:
        CheckError: It means that it cannot.
    """
    if status != 200:
        raise CheckError(f"status {status}")
    if grpc_status != b"0":
        shown = "none" if grpc_status is None else grpc_status.decode("ascii", "replace")
        raise CheckError(f"grpc-status {shown}")
    if not body[_GRPC_FRAME_HEAD:].startswith(GRPC_SERVING):
        raise CheckError("it answers that it is not serving")


def grpc_request(service: str) -> bytes:
    """Return the one message of a question about a service, in its frame."""
    name = service.encode()
    message = b""
    if name:
        # Field 1, length-delimited; the length as a varint.
        length, size = b"", len(name)
        while size >= 0x80:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        message = b"\x0a" + length + bytes([size]) + name
    return b"\0" + len(message).to_bytes(4) + message
