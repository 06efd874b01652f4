"""One request and its response: the join of a client stream and an upstream stream."""

from collections import deque
from typing import TYPE_CHECKING, Final

from spooky._core import reasons
from spooky._core.fields import forward_response, forward_trailers
from spooky._core.reasons import Reason
from spooky._core.validate import (
    Request,
    Response,
    validate_request,
    validate_response,
    validate_trailers,
)
from spooky.generation.generation import RequestPolicy, Upstream
from spooky.observe.access_log import AccessRecord
from spooky.protocol.stream import Field, Stream
from spooky.request.admission import Admission, Refusal, admit
from spooky.request.answer import answer_fields
from spooky.request.attempt import Attempt
from spooky.request.client import Client
from spooky.request.deadlines import Deadlines
from spooky.request.prebuffer import Prebuffer

if TYPE_CHECKING:
    from spooky.request.service import RequestService

UNLIMITED: Final = (1 << 64) - 1
"""What was received is held, whatever the limit; the limit keeps new bodies out."""

RESPONSE_FIELDS_MAX_COUNT = 256
"""Fields of a response head or trailers; twice what requests may have, as cookies are set here."""

RESPONSE_FIELDS_MAX_BYTES = 64 * 1024
"""Bytes of a response head or trailers, names and values; what the strictest client takes."""

IDEMPOTENT_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""May be sent again when a kept connection turns out stale (RFC 9110 section 9.2.2)."""


class Exchange:
    """The client side of the join; one for each request.

    A byte is credited to whoever sent it only when the other side accepted it, so what an
    exchange holds is bounded by the windows of its two streams.

    Arguments:
        service: The worker's request service.
        stream: The client's stream.
        client: The client's connection.
    """

    __slots__ = (
        "_admission", "_attempt", "_deadlines", "_finished", "_held", "_owed", "_pending",
        "_policy", "_prebuffer", "_redialled", "_request_ended", "_request_trailers",
        "_response_ended", "_response_started", "_service", "_stream", "_upstream", "_waiting_at",
        "client", "record", "request",
    )  # fmt: skip

    def __init__(self, service: "RequestService", stream: Stream, client: Client) -> None:
        self._service = service
        self._stream = stream
        self.client = client
        self.request: Request
        self.record = AccessRecord(service.next_request_id(), service.runtime.now())
        self._deadlines = Deadlines(service.runtime, self._on_deadline)
        self._policy: RequestPolicy
        self._upstream: Upstream
        self._admission: Admission | None = None
        self._waiting_at: Refusal | None = None
        self._attempt: Attempt | None = None
        self._pending: deque[bytes] = deque()
        self._request_trailers: list[Field] | None = None
        self._prebuffer: Prebuffer | None = None
        self._owed = 0
        self._held = 0
        self._request_ended = False
        self._response_started = False
        self._response_ended = False
        self._redialled = False
        self._finished = False

    # --- the client stream's upcalls ----------------------------------------------------------

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Validate, route and let the request in."""
        self._request_ended = end
        generation = self._service.in_force()
        if generation is None:
            self.record.take_raw_head(fields)
            self._answer(reasons.GENERATION_MISSING)
            return
        policy = self._policy = generation.policy
        request = validate_request(fields, self.client.version, policy.limits)
        if isinstance(request, Reason):
            self.record.take_raw_head(fields)
            self._answer(request)
            return
        self.request = request
        self.record.take_request(request)
        if self.client.is_early and request.method not in policy.early_methods:
            self._answer(reasons.TOO_EARLY)
            return
        bodies = policy.bodies
        if bodies.request is not None and request.content_length > bodies.request:
            self._answer(reasons.BODY_TOO_LARGE)
            return
        if not end and self._service.held.total >= bodies.held_requests:
            self._answer(reasons.REQUEST_BUFFER_CAP)
            return
        upstream = generation.routes.lookup(request.host, request.path, request.method)
        if upstream is None:
            self._answer(reasons.NO_ROUTE)
            return
        assert isinstance(upstream, Upstream)
        self._upstream = upstream
        self.record.upstream = upstream.name
        if policy.timeouts.total is not None:
            self._deadlines.limit_total(policy.timeouts.total)
        self._admit()

    def on_informational(self, fields: list[Field]) -> None:
        """Ignore it: clients send no informational heads."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Pass a piece of the request body on, or keep it until there is a backend."""
        if self._finished:
            return  # Its session was told that the rest is not wanted.
        size = len(data)
        self.record.bytes_received += size
        if self._response_ended:
            self._stream.consume(size)
            return
        self._request_ended = end
        limit = self._policy.bodies.request
        if limit is not None and self.record.bytes_received > limit:
            self._fail(reasons.BODY_TOO_LARGE)
            return
        attempt = self._attempt
        if attempt is None or attempt.stream is None:
            self._pending.append(data)
            self._hold(size)
            return
        self._send_upstream(attempt.stream, data, end)
        self._expect_request_progress()

    def on_trailers(self, fields: list[Field]) -> None:
        """Pass the request trailers on."""
        self._request_ended = True
        if self._finished or self._response_ended:
            return
        limits = self._policy.limits
        reason = validate_trailers(fields, limits.max_headers_count, limits.max_headers_bytes)
        if reason is not None:
            self._fail(reason)
            return
        attempt = self._attempt
        if attempt is None or attempt.stream is None:
            self._request_trailers = fields
            return
        attempt.stream.send_trailers(forward_trailers(fields))
        self._expect_request_progress()

    def on_reset(self, reason: Reason) -> None:
        """End the exchange: the client is gone."""
        if self._finished:
            return
        self._end_attempt(reason)
        self._finish(reason)

    def on_stopped(self) -> None:
        """End the exchange: a client that wants no response wants nothing."""
        self.on_reset(reasons.CLIENT_RESET)

    def on_writable(self) -> None:
        """Let the backend send on."""
        if self._finished:
            return
        if self._response_ended:
            self._complete()
            return
        attempt = self._attempt
        if attempt is None or attempt.stream is None:
            return
        owed, attempt.owed = attempt.owed, 0
        self._deadlines.client_acted()
        self._deadlines.expect_upstream(
            self._policy.timeouts.response_idle, reasons.UPSTREAM_BODY_TIMEOUT
        )
        if owed:
            attempt.stream.consume(owed)

    # --- admission ----------------------------------------------------------------------------

    def _admit(self) -> None:
        """Take a backend, or wait for a place in flight as long as the configuration allows."""
        was_waiting, self._waiting_at = self._waiting_at is not None, None
        admitted = admit(self._policy, self._upstream, self.request, self.client)
        if isinstance(admitted, Admission):
            self._deadlines.upstream_acted()
            self._admission = admitted
            self._dispatch(admitted)
            return
        wait = self._policy.timeouts.admission
        gate = admitted.gate
        if wait > 0 and gate is not None and gate.wait(self._admit, admitted.limit):
            self._waiting_at = admitted
            if not was_waiting:
                self._deadlines.expect_upstream(wait, admitted.reason)
            return
        self._answer(admitted.reason)

    def _dispatch(self, admission: Admission) -> None:
        """Try the backend that was chosen."""
        self.record.backend = admission.backend.id
        self._attempt = Attempt(self, admission)
        self._attempt.start()

    # --- the attempt's upcalls ----------------------------------------------------------------

    def on_upstream_connected(self, attempt: Attempt, stream: Stream) -> None:
        """Send the request, as much of it as there is."""
        self.record.upstream_connected(self._service.runtime.now(), stream.protocol)
        nothing_follows = (
            self._request_ended and not self._pending and self._request_trailers is None
        )
        stream.send_head(attempt.head(), nothing_follows)
        while self._pending:
            data = self._pending.popleft()
            self._release_held(len(data))
            end = self._request_ended and not self._pending and self._request_trailers is None
            self._send_upstream(stream, data, end)
        if self._request_trailers is not None:
            stream.send_trailers(forward_trailers(self._request_trailers))
        self._expect_request_progress()

    def on_upstream_writable(self) -> None:
        """Credit the client for what the backend accepted."""
        owed, self._owed = self._owed, 0
        self._release_held(owed)
        if not self._finished:
            self._stream.consume(owed)
            self._expect_request_progress()

    def on_response_informational(self, fields: list[Field]) -> None:
        """Pass a 1xx head on (RFC 9110 section 15.2)."""
        response = validate_response(fields, RESPONSE_FIELDS_MAX_COUNT, RESPONSE_FIELDS_MAX_BYTES)
        if isinstance(response, Response) and not self._finished:
            self._stream.send_informational(forward_response(response, ()))

    def on_response_head(self, attempt: Attempt, fields: list[Field], end: bool) -> None:
        """Pass the response head on, or hold it while the body is buffered."""
        response = validate_response(fields, RESPONSE_FIELDS_MAX_COUNT, RESPONSE_FIELDS_MAX_BYTES)
        if isinstance(response, Reason):
            self._fail(response)
            return
        bodies = self._policy.bodies
        if bodies.response is not None and response.content_length > bodies.response:
            self._fail(reasons.RESPONSE_TOO_LARGE)
            return
        self.record.response_head(self._service.runtime.now(), response.status)
        head = forward_response(response, self.client.response_fields)
        if bodies.prebuffer and response.content_length < 0 and not end:
            self._prebuffer = Prebuffer(head, bodies.prebuffer)
            self._expect_first_byte()
            return
        self._response_started = True
        self._deadlines.client_acted()
        self._stream.send_head(head, end)
        if end:
            self._end_response(True)
        else:
            self._expect_first_byte()

    def on_response_data(self, attempt: Attempt, data: bytes, end: bool) -> None:
        """Pass a piece of the response body on."""
        size = len(data)
        self.record.bytes_sent += size
        limit = self._policy.bodies.response
        if limit is not None and self.record.bytes_sent > limit:
            self._fail(reasons.RESPONSE_TOO_LARGE)
            return
        if self._prebuffer is not None:
            self._hold_response(attempt, self._prebuffer, data, end)
            return
        accepted = self._stream.send_data(data, end)
        if end:
            self._end_response(accepted)
            return
        assert attempt.stream is not None
        if accepted:
            attempt.stream.consume(size)
            self._deadlines.expect_upstream(
                self._policy.timeouts.response_idle, reasons.UPSTREAM_BODY_TIMEOUT
            )
        else:
            attempt.owed += size
            self._deadlines.upstream_acted()
            self._expect_client_to_read()

    def on_response_trailers(self, attempt: Attempt, fields: list[Field]) -> None:
        """Pass the response trailers on."""
        reason = validate_trailers(fields, RESPONSE_FIELDS_MAX_COUNT, RESPONSE_FIELDS_MAX_BYTES)
        if reason is not None:
            self._fail(reasons.UPSTREAM_BAD_RESPONSE)
            return
        if self._prebuffer is not None:
            self._release_prebuffer(self._prebuffer, end=False)
        self._stream.send_trailers(forward_trailers(fields))
        self._end_response(True)

    def on_upstream_failed(self, attempt: Attempt, reason: Reason, detail: str) -> None:
        """Send the request again if that is safe, else tell the client."""
        if self._finished or self._response_ended:
            return
        self.record.detail = detail
        if self._may_redial(attempt, reason):
            self._redialled = True
            admission = attempt.admission
            admission.backend.pool.discard_idle()
            self._dispatch(admission)
            return
        self._attempt = None
        self._report_failure(attempt.admission)
        self._fail(reason)

    # --- the join -----------------------------------------------------------------------------

    def _send_upstream(self, upstream: Stream, data: bytes, end: bool) -> None:
        """Send a piece of the request body; the client's credit waits for its acceptance."""
        size = len(data)
        if upstream.send_data(data, end):
            self._stream.consume(size)
        else:
            self._owed += size
            self._hold(size)

    def _expect_request_progress(self) -> None:
        """Set the deadline for whoever holds the request up; none once the response began."""
        if self._response_started or self._finished:
            return
        timeouts = self._policy.timeouts
        if self._request_ended:
            self._deadlines.client_acted()
            self._deadlines.expect_upstream(timeouts.response_head, reasons.UPSTREAM_HEAD_TIMEOUT)
        elif self._owed:
            self._deadlines.client_acted()
            self._deadlines.expect_upstream(timeouts.response_idle, reasons.UPSTREAM_HEAD_TIMEOUT)
        else:
            self._deadlines.upstream_acted()
            self._deadlines.expect_client(timeouts.request_idle, reasons.CLIENT_BODY_TIMEOUT)

    def _expect_first_byte(self) -> None:
        self._deadlines.expect_upstream(
            self._policy.timeouts.first_byte, reasons.UPSTREAM_BODY_TIMEOUT
        )

    def _expect_client_to_read(self) -> None:
        self._deadlines.expect_client(
            self._policy.timeouts.request_idle, reasons.CLIENT_READ_TIMEOUT
        )

    def _hold(self, size: int) -> None:
        """Account request bytes that are kept here or by the upstream stream."""
        self._held += size
        self._service.held.take(UNLIMITED, size)

    def _release_held(self, size: int) -> None:
        self._held -= size
        self._service.held.give(size)

    def _hold_response(
        self, attempt: Attempt, prebuffer: Prebuffer, data: bytes, end: bool
    ) -> None:
        """Keep a piece of a response of unknown length until it ended."""
        assert attempt.stream is not None
        if not prebuffer.add(data):
            self._fail(reasons.RESPONSE_TOO_LARGE)
            return
        if end:
            self._release_prebuffer(prebuffer, end=True)
            self._end_response(True)
            return
        attempt.stream.consume(len(data))
        self._expect_first_byte()

    def _release_prebuffer(self, prebuffer: Prebuffer, end: bool) -> None:
        """Send what was kept."""
        self._prebuffer = None
        self._response_started = True
        self._stream.send_head(prebuffer.head(end), False)
        self._stream.send_data(prebuffer.body(), end)

    def _end_response(self, accepted: bool) -> None:
        """The backend is done: give its place up; the client may still have to read."""
        self._response_ended = True
        self._deadlines.upstream_acted()
        self._leave()
        if not self._request_ended:
            # RFC 9114 section 4.1: a complete response makes the rest of the request moot.
            self._end_attempt(reasons.COMPLETED)
            self._stream.stop_receiving()
        if accepted:
            self._complete()
        else:
            self._expect_client_to_read()

    def _complete(self) -> None:
        self._finish(reasons.COMPLETED)

    # --- failure ------------------------------------------------------------------------------

    def _on_deadline(self, reason: Reason) -> None:
        """End the exchange because somebody took too long."""
        if self._waiting_at is not None:
            assert self._waiting_at.gate is not None
            self._waiting_at.gate.stop_waiting(self._admit)
            self._waiting_at = None
        elif self._admission is not None and not self._response_ended:
            self._report_failure(self._admission)
        self._fail(reason)

    def _fail(self, reason: Reason) -> None:
        """Give the backend up and tell the client: by an answer, or by a reset if too late."""
        if self._finished:
            return
        self._end_attempt(reason)
        if self._response_started or reason.status == 0:
            self._stream.reset(reason)
            self._finish(reason)
        else:
            self._answer(reason)

    def _answer(self, reason: Reason) -> None:
        """Answer in the backend's place."""
        self._deadlines.close()
        self._leave()
        fields, body = answer_fields(reason, self.client.response_fields)
        self.record.response_head(self._service.runtime.now(), reason.status)
        self.record.bytes_sent = len(body)
        self._response_started = self._response_ended = True
        if self.record.method == b"HEAD":
            self._stream.send_head(fields, True)
        else:
            self._stream.send_head(fields, False)
            self._stream.send_data(body, True)
        if not self._request_ended:
            self._stream.stop_receiving()
        self._finish(reason)

    def _may_redial(self, attempt: Attempt, reason: Reason) -> bool:
        """Tell whether the failure is that of a kept connection the backend had closed.

        Nothing of the response came, no body was sent, and doing it twice is harmless; or the
        backend said that it did nothing.
        """
        if self._redialled or attempt.heard or not attempt.reused or not self._request_ended:
            return False
        if self.record.bytes_received:
            return False
        if reason is reasons.UPSTREAM_REFUSED:
            return True
        return (
            reason is reasons.UPSTREAM_CONNECTION_LOST and self.request.method in IDEMPOTENT_METHODS
        )

    def _report_failure(self, admission: Admission) -> None:
        """Let a balancer that learns from latency learn from the failure."""
        report = admission.upstream.report_failure
        if report is not None:
            elapsed = self._service.runtime.now() - self.record.started
            report(admission.index, elapsed * 1000)

    # --- the end ------------------------------------------------------------------------------

    def _end_attempt(self, reason: Reason) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.give_up(reason)

    def _leave(self) -> None:
        """Give the places in flight up."""
        if self._admission is not None:
            self._admission.leave(self.record.backend_latency_ms())
            self._admission = None
        if self._waiting_at is not None and self._waiting_at.gate is not None:
            self._waiting_at.gate.stop_waiting(self._admit)
            self._waiting_at = None

    def _finish(self, reason: Reason) -> None:
        """Account the exchange and let everything go.

        What it refers to refers to it; nothing may remain that only the collector would free.
        """
        self._finished = True
        self._deadlines.close()
        self._leave()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.stream = None
        if self._held:
            self._release_held(self._held)
        self._pending.clear()
        self._service.finished(self.client, self._stream, self.record, reason)
        del self._stream
