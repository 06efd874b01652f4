"""What is out of the ordinary in an exchange: waiting, holding back, failing, our own answers."""

from spooky._core import reasons
from spooky._core.admission import PassedOver, Refusal
from spooky._core.attempt import Attempt
from spooky._core.fields import forward_response
from spooky._core.reasons import Reason
from spooky._core.validate import Response
from spooky.observe.decisions import NoteKind
from spooky.protocol.stream import Field
from spooky.request.answer import RETRY_AFTER_SECONDS, answer_fields
from spooky.request.prebuffer import Prebuffer
from spooky.request.retrying import RetryingExchange


class Exchange(RetryingExchange):
    """One request and its response: the join of a client stream and an upstream stream.

    The ordinary course is :mod:`spooky._core.pure.exchange`, trying again :mod:`.retrying`.
    """

    __slots__ = ()

    # --- admission ----------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> None:
        """Wait for a place in flight as long as the configuration allows, or answer."""
        was_waiting, self.waiting_at = self.waiting_at is not None, None
        if refusal.stage is not None:
            self.record.detail = f"{refusal.stage.name} {refusal.value} of {refusal.limit}"
        timeouts = self.policy.timeouts
        if timeouts.admission > 0 and refusal.gate is not None:
            patience = refusal.gate.wait(
                self.admit_now,
                refusal.limit,
                self.service.runtime.now(),
                timeouts.admission,
                timeouts.admission_target,
            )
            if patience > 0:
                self.note_refusal(NoteKind.WAITED, refusal)
                self.waiting_at = refusal
                if not was_waiting:
                    self.deadlines.expect_upstream(patience, reasons.QUEUE_TIMEOUT)
                return
        self.note_refusal(NoteKind.REFUSED, refusal)
        self.answer(refusal.reason)

    def note_refusal(self, kind: NoteKind, refusal: Refusal) -> None:
        """Note that the request was not let in, with the numbers of the moment."""
        if not self.service.keeps_decisions:
            return
        now, stage = self.service.runtime.now(), refusal.stage
        if refusal.admitted is not None:
            self.record.admitted = refusal.admitted
        if refusal.passed is not None or stage is None:
            self.note_detours(refusal.passed)
        if stage is None:
            self.record.note(kind, now, refusal.reason, "balancer")
        else:
            self.record.note(
                kind, now, refusal.reason, stage.name, float(refusal.value), float(refusal.limit)
            )

    def note_entered(self, refusal: Refusal) -> None:
        """Note that a place was found where it waited."""
        if refusal.stage is None:
            return
        self.service.count("inflight_wait_admit_total", scope=refusal.stage.name)
        if self.service.keeps_decisions:
            now = self.service.runtime.now()
            self.record.note(NoteKind.ENTERED, now, refusal.reason, refusal.stage.name)

    def note_detours(self, passed: list[PassedOver] | None) -> None:
        """Note which backends could not be chosen, and which were and did not let it in."""
        now, upstream = self.service.runtime.now(), self.upstream
        for name, reason, code in upstream.excluded.look():
            self.record.note(NoteKind.EXCLUDED, now, reason, name, code)
        for one in passed or ():
            name, value, limit = upstream.backends[one.index].id, one.value, one.limit
            self.record.note(NoteKind.PASSED_OVER, now, one.reason, name, value, limit)

    def stop_waiting(self) -> None:
        """Wait for no place any more."""
        refusal, self.waiting_at = self.waiting_at, None
        if refusal is not None and refusal.gate is not None:
            refusal.gate.stop_waiting(self.admit_now)

    # --- holding a response back --------------------------------------------------------------

    def review_head(self, attempt: Attempt, response: Response, end: bool) -> bool:
        """Try again after some statuses, else hold a response of unknown length back."""
        if super().review_head(attempt, response, end):
            return True
        limit = self.policy.bodies.prebuffer
        if not limit or response.content_length >= 0 or end:
            return False
        self.prebuffer = Prebuffer(forward_response(response, self.client.response_fields), limit)
        self.expect_first_byte()
        return True

    def hold_response(self, attempt: Attempt, data: bytes, end: bool) -> None:
        """Keep a piece of a response of unknown length until it ended."""
        if not self.prebuffer.add(data):
            self.fail(reasons.RESPONSE_TOO_LARGE)
            return
        if end:
            self.end_response(self.release_prebuffer(True))
            return
        attempt.stream.consume(len(data))
        # The body has begun, so it is no longer its first byte that is waited for.
        idle = self.policy.timeouts.response_idle
        self.deadlines.expect_upstream(idle, reasons.UPSTREAM_BODY_TIMEOUT)

    def release_prebuffer(self, end: bool) -> bool:
        """Send what was kept; return whether the client took it."""
        prebuffer, self.prebuffer = self.prebuffer, None
        self.response_started = True
        # Who may still send a body is waited for to read from now on.
        self.deadlines.client_acted()
        self.stream.send_head(prebuffer.head(end), False)
        accepted: bool = self.stream.send_data(prebuffer.body(), end)
        return accepted

    @property
    def held_bytes(self) -> int:
        """What is held beside what the client's stream holds: of the request, or held back.

        What is kept to be sent again is the same memory as what waits to be sent.
        """
        kept = 0 if self.replay is None else self.replay.size
        back = 0 if self.prebuffer is None else self.prebuffer.size
        return max(self._held, kept) + back

    def client_moved(self) -> int:
        """Return how many bytes of the response the client took since this was last asked.

        While its stream waits for its turn among others, what the client took of those counts:
        the order is ours.
        """
        if not self.response_started:
            return 0
        # What it had taken when this was last asked is in ``_seen_taken`` and ``_seen_beside``.
        taken: int = self.record.bytes_sent - self.stream.unsent()
        moved = taken - self._seen_taken
        self._seen_taken = taken
        if moved < 0:
            # Some of what it took is in a buffer that nobody can look into.
            moved = 1
        beside: int = self.stream.taken_beside()
        if 0 <= self._seen_beside < beside:
            moved = max(moved, beside - self._seen_beside)
        self._seen_beside = beside
        return moved

    # --- failure ------------------------------------------------------------------------------

    def fail(self, reason: Reason) -> None:
        """Give the backend up and tell the client: by an answer, or by a reset if too late."""
        if self.finished:
            return
        self.end_attempt(reason)
        if self.response_started or reason.status == 0:
            self.stream.reset(reason)
            self.finish(reason)
        else:
            self.answer(reason)

    # --- our own answers ----------------------------------------------------------------------

    def refuse_head(self, fields: list[Field], reason: Reason) -> None:
        """Answer a request whose head is not taken."""
        self.record.take_raw_head(fields)
        self.answer(reason)

    def answer(self, reason: Reason) -> None:
        """Answer in the backend's place."""
        self.deadlines.close()
        policy = self.policy
        retry_after = policy.retry_after if policy is not None else RETRY_AFTER_SECONDS
        fields, body = answer_fields(reason, self.client.response_fields, retry_after)
        # Not as a response head: how soon backends answer is learnt from those.
        self.record.status = reason.status
        self.record.bytes_sent = len(body)
        self.response_started = self.response_ended = True
        if self.record.method == b"HEAD":
            self.stream.send_head(fields, True)
        else:
            self.stream.send_head(fields, False)
            self.stream.send_data(body, True)
        if not self.request_ended:
            self.stream.stop_receiving()
        self.finish(reason)
