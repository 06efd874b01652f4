# cython: annotation_typing=False
"""The ordinary course of a request: the join of a client stream and an upstream stream.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What is out of the
ordinary (answers of our own, waiting, trying again, holding a response back, failures) is left to
``request/exchange.py``, whose class extends this one. Streams are those of ``protocol/stream.py``,
pools those of ``upstream/pool.py``.
"""

from abc import abstractmethod
from collections import deque
from typing import Any, Final

from spooky._core import reasons
from spooky._core.access_record import AccessRecord
from spooky._core.admission import Admission, PassedOver, Refusal, admit, admitted_by
from spooky._core.attempt import Attempt, Owner
from spooky._core.deadlines import Deadlines
from spooky._core.fields import forward_request, forward_response, forward_trailers
from spooky._core.reasons import Reason
from spooky._core.service import Service
from spooky._core.terms import Client
from spooky._core.validate import (
    Request,
    Response,
    validate_request,
    validate_response,
    validate_trailers,
)

Field = tuple[bytes, bytes]

EARLY_DATA: Final = b"early-data"

UNLIMITED: Final = (1 << 64) - 1
"""What was received is held, whatever the limit; the limit keeps new bodies out."""

RESPONSE_FIELDS_MAX_COUNT: Final = 256
"""Fields of a response head or trailers; twice what requests may have, as cookies are set here."""
RESPONSE_FIELDS_MAX_BYTES: Final = 64 * 1024
"""Bytes of a response head or trailers, names and values; what the strictest client takes."""

REVIEWED_STATUS: Final = 400
"""From here on another backend may give a better answer, see ``resilience.retry.statuses``."""

_MAX_COUNT = RESPONSE_FIELDS_MAX_COUNT
_MAX_BYTES = RESPONSE_FIELDS_MAX_BYTES
_REVIEWED_STATUS = REVIEWED_STATUS
_COMPLETED = reasons.COMPLETED
_UPSTREAM_HEAD_TIMEOUT = reasons.UPSTREAM_HEAD_TIMEOUT
_UPSTREAM_BODY_TIMEOUT = reasons.UPSTREAM_BODY_TIMEOUT


class Exchange(Owner):
    """The client side of the join; one for each request.

    A byte is credited to its sender only when the other side accepted it: so it holds little.

    Arguments:
        service: The worker's request service.
        stream: The client's stream.
        client: The client's connection.

    Attributes:
        service, client: As given.
        stream: The client's stream, until the end.
        record: What the access log says.
        deadlines: Who is waited for.
        request: From when its head was found to be valid.
        policy: What was in force when its head came.
        upstream: Where its route leads.
        attempt: The try under way.
        waiting_at: Where it was refused, while it waits for a place.
        prebuffer: What of the response is held back.
        reviews_heads: Whether :meth:`review_head` is asked.
        redialled: Whether it was sent again over a new connection.
        tries: What is remembered of its tries, from when more than one is thought of.
        replay: What of its body was sent, as long as that is kept to be sent again.
        request_ended: Whether the client sent all of it.
        response_started: Whether the client was sent a head.
        response_ended: Whether the client was sent or is being sent all of the response.
        finished: Whether it ended.
    """

    def __init__(self, service: Service, stream: Any, client: Client) -> None:
        self.service = service
        self.stream = stream
        self.client = client
        self.record = AccessRecord(service.next_request_id(), service.runtime.clock())
        self.deadlines = Deadlines(service.runtime, self)
        self.request: Any = None
        self.policy: Any = None
        self.upstream: Any = None
        self.attempt: Attempt | None = None
        self.waiting_at: Refusal | None = None
        self.prebuffer: Any = None
        self.reviews_heads = False
        self.redialled = False
        self.tries: Any = None
        self.replay: Any = None
        self.request_ended = False
        self.response_started = False
        self.response_ended = False
        self.finished = False
        self._pending: deque[bytes] | None = None
        self._trailers: list[Field] | None = None
        self._body_sent = False
        self._seen_taken = 0
        self._seen_beside = -1
        self._owed = 0
        self._held = 0

    # --- what is out of the ordinary ----------------------------------------------------------

    @abstractmethod
    def refuse_head(self, fields: list[Field], reason: Reason) -> None:
        """Answer a request whose head is not taken."""

    @abstractmethod
    def answer(self, reason: Reason) -> None:
        """Answer in the backend's place."""

    @abstractmethod
    def fail(self, reason: Reason) -> None:
        """Give the backend up and tell the client."""

    @abstractmethod
    def refused(self, refusal: Refusal) -> None:
        """Wait for a place in flight, or answer."""

    @abstractmethod
    def note_detours(self, passed: list[PassedOver] | None) -> None:
        """Note which backends could not be chosen, and which were and did not let it in."""

    @abstractmethod
    def note_entered(self, refusal: Refusal) -> None:
        """Note that a place was found where it waited."""

    @abstractmethod
    def stop_waiting(self) -> None:
        """Wait for no place any more."""

    @abstractmethod
    def on_dispatched(self, attempt: Attempt) -> None:
        """Take note of a try that begins, where something happens some time after that."""

    @abstractmethod
    def keep_body(self) -> None:
        """Keep what is sent of the body from now on, if that is asked for."""

    @abstractmethod
    def stop_retrying(self, reason: Reason) -> None:
        """Let go of all tries but the exchange's own: it is over."""

    @abstractmethod
    def review_head(self, attempt: Attempt, response: Response, end: bool) -> bool:
        """Look at a response head before it is passed on; return whether it is dealt with."""
        return False

    @abstractmethod
    def hold_response(self, attempt: Attempt, data: bytes, end: bool) -> None:
        """Keep a piece of a response that is held back."""

    @abstractmethod
    def release_prebuffer(self, end: bool) -> bool:
        """Send what is held back of a response; return whether the client took it."""
        return True

    @abstractmethod
    def client_moved(self) -> int:
        """Return how many bytes of the response the client took since this was last asked."""
        return 0

    @abstractmethod
    def on_deadline(self, reason: Reason) -> None:
        """End the exchange because somebody took too long."""

    # --- the client stream's upcalls ----------------------------------------------------------

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Validate, route and let the request in."""
        self.request_ended = end
        generation = self.service.in_force()
        if generation is None:
            self.refuse_head(fields, reasons.GENERATION_MISSING)
            return
        self.record.generation = generation.number
        policy = generation.policy
        self.policy = policy
        validated = validate_request(fields, self.client.version, policy.limits)
        if not isinstance(validated, Request):
            self.refuse_head(fields, validated)
            return
        request = validated
        client = self.client
        if client.proxies is not None:
            self.client = client.of_request(request.fields)
        self.request = request
        self.record.take_request(request)
        if request.dropped:
            self.service.count("requests_with_dropped_fields_total")
        if client.covered is not None and not client.covered.includes(request.host):
            self.answer(reasons.MISDIRECTED)
            return
        if self.client.is_early and request.method not in policy.early_methods:
            self.answer(reasons.TOO_EARLY)
            return
        bodies = policy.bodies
        if bodies.request is not None and request.content_length > bodies.request:
            self.answer(reasons.BODY_TOO_LARGE)
            return
        if not end and self.service.held.total >= bodies.held_requests:
            self.answer(reasons.REQUEST_BUFFER_CAP)
            return
        routes = generation.routes
        upstream: Any = routes.lookup(request.host, request.path, request.method)
        if upstream is None:
            self.answer(reasons.NO_ROUTE)
            return
        self.upstream = upstream
        self.record.upstream = upstream.name
        self.reviews_heads = bodies.prebuffer > 0
        if policy.timeouts.total is not None:
            self.deadlines.limit_total(policy.timeouts.total)
        self._admit(self.record.started)

    def on_informational(self, fields: list[Field]) -> None:
        """Ignore it: clients send no informational heads."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Pass a piece of the request body on, or keep it until there is a backend."""
        if self.finished:
            return  # Its session was told that the rest is not wanted.
        size = len(data)
        self.record.bytes_received += size
        if self.response_ended:
            self.stream.consume(size)
            return
        if self.policy is None:
            return  # The head's handler failed; its session ends the stream.
        self.request_ended = end
        limit = self.policy.bodies.request
        if limit is not None and self.record.bytes_received > limit:
            self.fail(reasons.BODY_TOO_LARGE)
            return
        attempt = self.attempt
        if attempt is None or attempt.stream is None:
            if self._pending is None:
                self._pending = deque()
            self._pending.append(data)
            self._hold(size)
            return
        self._send_upstream(attempt.stream, data, end)
        if end:
            attempt.sent = self._now()
        self._expect_request_progress()

    def on_trailers(self, fields: list[Field]) -> None:
        """Pass the request trailers on."""
        self.request_ended = True
        if self.finished or self.response_ended or self.policy is None:
            return
        its = self.policy.limits
        most, size = its.max_headers_count, its.max_headers_bytes
        reason = validate_trailers(fields, most, size, its.underscores)
        if reason is not None:
            self.fail(reason)
            return
        self._trailers = fields
        attempt = self.attempt
        if attempt is None or attempt.stream is None:
            return
        attempt.stream.send_trailers(forward_trailers(fields))
        attempt.sent = self._now()
        self._expect_request_progress()

    def on_reset(self, reason: Reason) -> None:
        """End the exchange: the client is gone."""
        if self.finished:
            return
        self.end_attempt(reason)
        self._finish(reason)

    def on_stopped(self) -> None:
        """End the exchange: a client that wants no response wants nothing."""
        self.on_reset(reasons.CLIENT_RESET)

    def on_writable(self) -> None:
        """Let the backend send on."""
        if self.finished:
            return
        if self.response_ended:
            self._finish(_COMPLETED)
            return
        attempt = self.attempt
        if attempt is None or attempt.stream is None:
            return
        owed = attempt.owed
        attempt.owed = 0
        self.deadlines.client_acted()
        self.deadlines.expect_upstream(self.policy.timeouts.response_idle, _UPSTREAM_BODY_TIMEOUT)
        if owed:
            attempt.stream.consume(owed)

    # --- admission ----------------------------------------------------------------------------

    def _admit(self, started: float) -> None:
        """Take a backend, or do what is done without one."""
        client = self.client
        admitted = admit(self.upstream, self.request, client.address, client.connection_id, started)
        if isinstance(admitted, Admission):
            if self.waiting_at is not None:
                self.note_entered(self.waiting_at)
                self.waiting_at = None
                self.deadlines.upstream_acted()
            budget = self.upstream.budget
            if budget is not None:
                budget.count_request(started)
            self._dispatch(admitted, started)
        else:
            self.refused(admitted)

    def _dispatch(self, admission: Admission, started: float) -> None:
        """Try the backend that was chosen."""
        record = self.record
        record.backend = admission.backend.id
        record.tries += 1
        if self.service.keeps_decisions:
            record.admitted = admitted_by(admission)
            balancer = admission.upstream.balancer
            if admission.passed is not None or balancer.excluded():
                self.note_detours(admission.passed)
        attempt = Attempt(self, admission, started)
        self.attempt = attempt
        if self.upstream.is_timed:
            self.on_dispatched(attempt)
        admission.backend.pool.request(attempt)

    def admit_now(self) -> None:
        """Take a backend now: there may be a place for who waited, or one that failed is left."""
        self._admit(self._now())

    def dispatch_again(self, admission: Admission) -> None:
        """Try the backend of an admission again, which no other attempt may leave now."""
        self._dispatch(admission, self._now())

    # --- the attempt's upcalls ----------------------------------------------------------------

    def _now(self) -> float:
        """Return the time."""
        return self.service.runtime.clock()

    def _on_upstream_connected(self, attempt: Attempt, stream: Any) -> None:
        """Send the request, as much of it as there is."""
        now = self._now()
        attempt.connected = now
        self.record.upstream_connected(now, stream.protocol)
        ends = self.request_ended and not self._pending and self._trailers is None
        if not ends and not self._body_sent:
            self.keep_body()
        if self.replay is not None:
            ends = ends and not self.replay.pieces
        stream.send_head(self._head_for(attempt.admission), ends)
        if not ends:
            self._send_pending(stream)
            if self.request_ended:
                attempt.sent = now
        elif self.request_ended:
            attempt.sent = attempt.started
        self._expect_request_progress()

    def _head_for(self, admission: Admission) -> list[Field]:
        """Return the request head for the backend."""
        backend = admission.backend
        forwarding = admission.upstream.forwarding
        # To what the proxy before us says of the client belongs only who that proxy is.
        address = self.client.hop if forwarding.appends else self.client.address
        fields = forward_request(
            self.request,
            forwarding,
            address,
            b"https",
            backend.scheme,
            backend.authority,
        )
        if self.client.is_early:
            # RFC 8470 section 5.1: the backend judges whether a replay would matter.
            fields = [field for field in fields if field[0] != EARLY_DATA]
            fields.append((EARLY_DATA, b"1"))
        return fields

    def _send_pending(self, stream: Any) -> None:
        """Send what was sent to another backend, credited then, and what came since."""
        pending = self._pending
        if self.replay is not None:
            last = len(self.replay.pieces)
            for data in self.replay.pieces:
                last -= 1
                end = self.request_ended and not last and not pending and self._trailers is None
                stream.send_data(data, end)
        while pending:
            data = pending.popleft()
            self._release_held(len(data))
            end = self.request_ended and not pending and self._trailers is None
            self._send_upstream(stream, data, end)
        if self._trailers is not None:
            stream.send_trailers(forward_trailers(self._trailers))

    def _on_upstream_writable(self, attempt: Attempt) -> None:
        """Credit the client for what the backend accepted."""
        self._credit_owed()
        if not self.finished:
            self._expect_request_progress()

    def _credit_owed(self) -> None:
        """Credit the client for what waited for a backend's acceptance."""
        owed = self._owed
        self._owed = 0
        self._release_held(owed)
        if not self.finished:
            self.stream.consume(owed)

    def can_send_again(self) -> bool:
        """Return whether the whole of the body that came can be sent to another backend."""
        return not self._body_sent or self.replay is not None

    def take_back(self) -> None:
        """Let nothing wait for the acceptance of a backend that is given up: a copy is kept."""
        if self._owed:
            self._credit_owed()

    def _on_response_informational(self, attempt: Attempt, fields: list[Field]) -> None:
        """Pass a 1xx head on (RFC 9110 section 15.2)."""
        response = validate_response(fields, _MAX_COUNT, _MAX_BYTES)
        if isinstance(response, Response) and not self.finished:
            self.stream.send_informational(forward_response(response, ()))

    def _on_response_head(self, attempt: Attempt, fields: list[Field], end: bool) -> None:
        """Pass the response head on."""
        validated = validate_response(fields, _MAX_COUNT, _MAX_BYTES)
        if not isinstance(validated, Response):
            self.on_upstream_failed(attempt, validated, "")
            return
        response = validated
        limit = self.policy.bodies.response
        if limit is not None and response.content_length > limit:
            self.fail(reasons.RESPONSE_TOO_LARGE)
            return
        now = self._now()
        attempt._took_head(now, response.status)
        self.record.response_head(now, response.status)
        if (self.reviews_heads or response.status >= _REVIEWED_STATUS) and self.review_head(
            attempt, response, end
        ):
            return
        if self.replay is not None:
            self.replay.drop()
            self.replay = None
        self.response_started = True
        self.deadlines.client_acted()
        self.stream.send_head(forward_response(response, self.client.response_fields), end)
        if end:
            self._end_response(True)
        else:
            self.expect_first_byte()

    def _on_response_data(self, attempt: Attempt, data: bytes, end: bool) -> None:
        """Pass a piece of the response body on."""
        size = len(data)
        self.record.bytes_sent += size
        limit = self.policy.bodies.response
        if limit is not None and self.record.bytes_sent > limit:
            self.fail(reasons.RESPONSE_TOO_LARGE)
            return
        if self.prebuffer is not None:
            self.hold_response(attempt, data, end)
            return
        accepted = self.stream.send_data(data, end)
        if end:
            self._end_response(accepted)
        elif accepted:
            attempt.stream.consume(size)
            self.deadlines.expect_upstream(
                self.policy.timeouts.response_idle, _UPSTREAM_BODY_TIMEOUT
            )
        else:
            attempt.owed += size
            self.deadlines.upstream_acted()
            self.deadlines.expect_reading(self.policy.timeouts)

    def _on_response_trailers(self, attempt: Attempt, fields: list[Field]) -> None:
        """Pass the response trailers on."""
        if validate_trailers(fields, _MAX_COUNT, _MAX_BYTES) is not None:
            self.fail(reasons.UPSTREAM_BAD_RESPONSE)
            return
        if self.prebuffer is not None:
            self.release_prebuffer(False)
        accepted = self.stream.send_trailers(forward_trailers(fields))
        self._end_response(accepted)

    # --- the join -----------------------------------------------------------------------------

    def _send_upstream(self, upstream: Any, data: bytes, end: bool) -> None:
        """Send a piece of the request body; the client's credit waits for its acceptance."""
        size = len(data)
        if size:
            self._body_sent = True
        if self.replay is not None and not self.replay.add(data):
            self.replay = None
        if upstream.send_data(data, end):
            self.stream.consume(size)
        else:
            self._owed += size
            self._hold(size)

    def _expect_request_progress(self) -> None:
        """Set the deadline for whoever holds the request up; none once the response began."""
        if self.response_started or self.finished:
            return
        timeouts = self.policy.timeouts
        if self.request_ended:
            self.deadlines.client_acted()
            self.deadlines.expect_upstream(timeouts.response_head, _UPSTREAM_HEAD_TIMEOUT)
        elif self._owed:
            self.deadlines.client_acted()
            self.deadlines.expect_upstream(timeouts.response_idle, _UPSTREAM_HEAD_TIMEOUT)
        else:
            self.deadlines.upstream_acted()
            is_declared = self.request.content_length >= 0
            self.deadlines.expect_body(timeouts, is_declared, self.record.bytes_received)

    def expect_first_byte(self) -> None:
        """Give the backend until its body begins."""
        self.deadlines.expect_upstream(self.policy.timeouts.first_byte, _UPSTREAM_BODY_TIMEOUT)

    def _hold(self, size: int) -> None:
        """Account request bytes that are kept here or by the upstream stream."""
        self._held += size
        self.service.held.take(UNLIMITED, size)

    def _release_held(self, size: int) -> None:
        """Account request bytes as passed on."""
        self._held -= size
        self.service.held.give(size)

    def _end_response(self, accepted: bool) -> None:
        """The backend is done: give its place up; the client may still have to read."""
        self.response_ended = True
        self.deadlines.upstream_acted()
        attempt = self.attempt
        if attempt is not None:
            attempt.conclude(_COMPLETED)
        if not self.request_ended:
            # RFC 9114 section 4.1: a complete response makes the rest of the request moot.
            self.end_attempt(_COMPLETED)
            self.stream.stop_receiving()
        if accepted:
            self._finish(_COMPLETED)
        else:
            self.deadlines.expect_reading(self.policy.timeouts)

    def end_response(self, accepted: bool) -> None:
        """Note that the client was sent the end; ``accepted`` says whether it took all of it."""
        self._end_response(accepted)

    # --- the end ------------------------------------------------------------------------------

    def end_attempt(self, reason: Reason) -> None:
        """Give the try under way up, if there is one."""
        attempt = self.attempt
        self.attempt = None
        if attempt is not None:
            attempt.give_up(reason)

    def finish(self, reason: Reason) -> None:
        """Account the exchange and let everything go."""
        self._finish(reason)

    def _finish(self, reason: Reason) -> None:
        """Let go of all that refers to it, so that nothing is left for the collector alone."""
        self.finished = True
        self.deadlines.close()
        if self.waiting_at is not None:
            self.stop_waiting()
        attempt = self.attempt
        self.attempt = None
        if attempt is not None:
            attempt.conclude(reason)
            attempt.stream = None
        if self.tries is not None:
            self.stop_retrying(reason)
        if self.replay is not None:
            self.replay.drop()
            self.replay = None
        if self._held:
            self._release_held(self._held)
        self._pending = None
        stream = self.stream
        self.stream = None
        self.service.finished(self.client, stream, self.record, reason)
