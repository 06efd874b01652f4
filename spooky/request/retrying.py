"""Trying again: another backend after a failure, and a second one beside a slow one."""

import random
import time
from abc import abstractmethod

from spooky._core import exchange, reasons
from spooky._core.admission import Admission, Refusal
from spooky._core.attempt import Attempt
from spooky._core.fields import forward_response
from spooky._core.reasons import Reason, Retry
from spooky._core.validate import Response
from spooky.observe.decisions import NoteKind
from spooky.overload.hedging import HedgePolicy
from spooky.overload.retry import Verdict, retry_after_seconds
from spooky.request.readmission import admit_again, has_another
from spooky.request.replay import Replay
from spooky.request.tries import Tries

BAD_STATUS = 500
"""An answer from here on is none as long as another backend may give a better one."""


class RetryingExchange(exchange.Exchange):
    """What an exchange does about a try that failed or takes long.

    It knows of more than one try from when :attr:`tries` is there. Two at once are its own, which
    is the later one, and the rival; whichever answers well becomes its own.
    """

    __slots__ = ()

    tries: Tries | None

    # --- what the ordinary course asks ---------------------------------------------------------

    def keep_body(self) -> None:
        """Keep what is sent of the request body, if that is asked for."""
        retry = self.upstream.retry
        if 0 < retry.body_max >= self.request.content_length:
            self.replay = Replay(retry.body_max, self.service.kept, retry.body_places_max)

    def on_dispatched(self, attempt: Attempt) -> None:
        """Begin the time of one try, and that until a second backend is asked."""
        tries = self._remember_tries()
        runtime = self.service.runtime
        retry = self.upstream.retry
        if retry.try_timeout is not None:
            if tries.try_timer is not None:
                tries.try_timer.cancel()
            deadline = attempt.started + retry.try_timeout
            tries.try_timer = runtime.schedule(deadline, self._on_try_timeout)
            # The head ends that time, whatever its status.
            self.reviews_heads = True
        if tries.rival is not None:
            tries.hedge = attempt
        elif (
            retry.hedging is not None and self.record.tries == 1 and self._may_hedge(retry.hedging)
        ):
            deadline = attempt.started + retry.hedging.delay.seconds(attempt.started)
            tries.hedge_timer = runtime.schedule(deadline, self._begin_hedge)

    def stop_retrying(self, reason: Reason) -> None:
        """End what is under way beside the exchange's own try: the exchange is over."""
        tries = self.tries
        if tries is None:
            return
        tries.stop_timers()
        rival, tries.rival = tries.rival, None
        if rival is not None:
            rival.give_up(reason)
        self._give_back(tries)
        self._count_retry("abandoned")
        self._count_hedge("cancelled")

    # --- failures -----------------------------------------------------------------------------

    def on_upstream_failed(self, attempt: Attempt, reason: Reason, detail: str) -> None:
        """Go on with the other try, send the request again if that is safe, or tell the client."""
        if self.finished or self.response_ended:
            return
        self.record.detail = detail
        if self.tries is not None and self.tries.rival is not None:
            self._lose(self.tries, attempt, reason)
            return
        if self.tries is not None and attempt is self.tries.hedge:
            self._count_hedge("failed")
        if self._may_redial(attempt, reason):
            self._redial(attempt, reason)
        elif not self._try_again(attempt, reason, 0.0):
            self.fail(reason)

    def on_deadline(self, reason: Reason) -> None:
        """End the try, or the exchange, because somebody took too long."""
        self.stop_waiting()
        if self.attempt is None or reason.retryable is Retry.NEVER:
            self.fail(reason)
        else:
            self._fail_tries(reason)

    def _on_try_timeout(self) -> None:
        tries, retry = self._remember_tries(), self.upstream.retry
        tries.try_timer = None
        if self.attempt is None or retry.try_timeout is None:
            return
        if self.request_ended:
            self._fail_tries(reasons.TRY_TIMEOUT)
        else:
            # It is the client who takes long.
            runtime = self.service.runtime
            tries.try_timer = runtime.schedule(
                runtime.now() + retry.try_timeout, self._on_try_timeout
            )

    def _fail_tries(self, reason: Reason) -> None:
        """End what is under way as failed."""
        if self.tries is not None and self.tries.rival is not None:
            self._lose(self.tries, self.tries.rival, reason)
        if self.attempt is not None:
            self.on_upstream_failed(self.attempt, reason, "")

    def _may_redial(self, attempt: Attempt, reason: Reason) -> bool:
        """Tell whether the failure is that of a kept connection the backend had closed.

        Nothing of the response came, and doing it twice is harmless; or the backend said as it
        closed that it did nothing. That is no failure of the backend, and costs the budget nothing.
        """
        if self.redialled or attempt.heard or not attempt.reused or not self.can_send_again():
            return False
        if self.response_started or self.prebuffer is not None:
            return False
        if reason is reasons.UPSTREAM_GOING_AWAY:
            return True
        return (
            reason is reasons.UPSTREAM_CONNECTION_LOST
            and self.request.method in self.upstream.retry.methods
        )

    def _redial(self, attempt: Attempt, reason: Reason) -> None:
        """Send the request to the same backend over a new connection."""
        self._note_end(attempt, reason)
        self.redialled = True
        self._begin_again(self._remember_tries(), reason)
        attempt.admission.backend.pool.discard_idle()
        self._note_begin(NoteKind.TRY_BEGAN, attempt.admission, self.record.tries + 1.0)
        self.dispatch_again(attempt.admission)

    def _try_again(self, attempt: Attempt, reason: Reason, retry_after: float) -> bool:
        """Send the request once more, now or after a pause, if it may be.

        Arguments:
            attempt: What failed.
            reason: Why.
            retry_after: How long the backend asks to be left alone; seconds.

        Returns:
            Whether that is under way; else nothing changed.
        """
        tries, retry = self._remember_tries(), self.upstream.retry
        if tries.is_denied:
            return False
        verdict = tries.allowance.judge(
            retry,
            reason,
            self.request.method,
            begun=self.response_started or self.prebuffer is not None or attempt.heard,
            replayable=self.can_send_again(),
        )
        failed = {*tries.failed, attempt.admission.index}
        pause = 0.0
        if not has_another(self.upstream, failed):
            pause = max(retry.backoff(tries.allowance.returns, random.random()), retry_after)
        if verdict is Verdict.ALLOWED and pause > retry.backoff_max:
            verdict = Verdict.PAUSE
        elif verdict is Verdict.ALLOWED and not self._spend():
            verdict = Verdict.BUDGET
        if verdict is not Verdict.ALLOWED:
            tries.is_denied = True
            self._count_retry("failed")
            self.service.count("retry_denied_total", reason=verdict.value)
            self._note_end(attempt, reason)
            if self.service.keeps_decisions:
                self.record.note(
                    NoteKind.RETRY_DENIED, self.service.runtime.now(), reason, verdict.value
                )
            return False
        attempt.give_up(reason)
        self.attempt = None
        self._note_end(attempt, reason)
        tries.note_end(attempt)
        tries.allowance.take(reason)
        self._count_retry("failed")
        self._begin_again(tries, reason)
        self.deadlines.upstream_acted()
        if pause > 0 or not self._try_elsewhere(returns=False):
            # Others may be there and have no room.
            self._try_later(tries, pause or retry.backoff(tries.allowance.returns, random.random()))
        return True

    def _begin_again(self, tries: Tries, reason: Reason) -> None:
        """Make ready for a try that follows a failure."""
        tries.stop_timers()
        tries.cause = reason
        self.reviews_heads = True
        # Until there is a backend again it is not the client who holds things up.
        self.deadlines.client_acted()
        self.take_back()

    def _try_elsewhere(self, returns: bool) -> bool:
        """Send the request to a backend that did not fail, if one has room.

        Arguments:
            returns: Whether one that failed will do.
        """
        tries = self._remember_tries()
        admitted = admit_again(
            self.upstream,
            self.request,
            self.client,
            tries.failed,
            returns,
            self.service.runtime.now(),
        )
        if isinstance(admitted, Refusal):
            self.note_refusal(NoteKind.REFUSED, admitted)
            return False
        tries.is_paid = False
        self._note_begin(NoteKind.TRY_BEGAN, admitted, self.record.tries + 1.0)
        self.dispatch_again(admitted)
        return True

    def _try_later(self, tries: Tries, pause: float) -> None:
        """Send the request to whichever backend has room after a pause."""
        tries.allowance.returns += 1
        runtime = self.service.runtime
        tries.pause_timer = runtime.schedule(runtime.now() + pause, self._on_pause_over)

    def _on_pause_over(self) -> None:
        tries = self._remember_tries()
        tries.pause_timer = None
        cause = tries.cause
        if not self._try_elsewhere(returns=True) and cause is not None:
            self.fail(cause)

    # --- hedging ------------------------------------------------------------------------------

    def _may_hedge(self, hedging: HedgePolicy) -> bool:
        return (
            self.request_ended
            and self.record.bytes_received == 0
            and self.request.method in hedging.methods
        )

    def _begin_hedge(self) -> None:
        """Ask a second backend, if there is one and the budget allows it."""
        tries, first = self._remember_tries(), self.attempt
        tries.hedge_timer = None
        if first is None or self.response_started or self.prebuffer is not None:
            return
        taken = {*tries.failed, first.admission.index}
        if not has_another(self.upstream, taken) or not self._spend():
            return
        now = self.service.runtime.now()
        admitted = admit_again(self.upstream, self.request, self.client, taken, False, now)
        if isinstance(admitted, Refusal):
            self._give_back(tries)
            self.note_refusal(NoteKind.REFUSED, admitted)
            return
        tries.is_paid = False
        tries.rival = first
        self.reviews_heads = True
        self._note_first(first)
        self.record.hedged = True
        self._note_begin(NoteKind.HEDGE_BEGAN, admitted, (now - first.started) * 1000)
        self.dispatch_again(admitted)

    def _lose(self, tries: Tries, attempt: Attempt, reason: Reason) -> None:
        """Go on with one of two tries; the other failed."""
        other = tries.rival if attempt is self.attempt else self.attempt
        assert other is not None
        is_hedge = attempt is tries.hedge
        self._keep(tries, other, attempt, reason)
        if is_hedge:
            self._count_hedge("failed")

    def _win(self, tries: Tries, attempt: Attempt) -> None:
        """Go on with the one of two tries that answered."""
        other = tries.rival if attempt is self.attempt else self.attempt
        assert other is not None
        self._keep(tries, attempt, other, reasons.HEDGE_LOST)
        if attempt is not tries.hedge:
            late = self.service.runtime.now() - other.started
            self.service.observe("hedge_primary_late_seconds", late)
            self._count_hedge("lost")

    def _keep(self, tries: Tries, kept: Attempt, ended: Attempt, reason: Reason) -> None:
        """End one of two tries; the other becomes the exchange's own."""
        tries.rival = None
        self.attempt = kept
        ended.give_up(reason)
        self._note_end(ended, reason)
        tries.note_end(ended)
        self.record.backend = kept.admission.backend.id
        if kept.stream is not None:
            self.record.upstream_connected(kept.connected, kept.stream.protocol)

    # --- the response -------------------------------------------------------------------------

    def review_head(self, attempt: Attempt, response: Response, end: bool) -> bool:
        """Try again after some statuses, and settle which of two tries won."""
        tries, retry = self.tries, self.upstream.retry
        if tries is not None and tries.rival is not None:
            if response.status >= BAD_STATUS:
                self._lose(tries, attempt, reasons.UPSTREAM_STATUS)
                return True
            self._win(tries, attempt)
        if response.status in retry.statuses:
            asked = retry_after_seconds(forward_response(response, ()), time.time())
            if self._try_again(attempt, reasons.UPSTREAM_STATUS, asked):
                return True
        if tries is not None:
            tries.stop_timers()
            self._count_retry("answered")
            self._count_hedge("won")
        return False

    # --- notes, for whoever asks why -----------------------------------------------------------

    @abstractmethod
    def note_refusal(self, kind: NoteKind, refusal: Refusal) -> None:
        """Note that the request was not let in, with the numbers of the moment."""

    def _note_end(self, attempt: Attempt, reason: Reason) -> None:
        """Note a try that ended otherwise than the exchange."""
        if not self.service.keeps_decisions:
            return
        self._note_first(attempt)
        self.record.note(
            NoteKind.TRY_ENDED,
            self.service.runtime.now(),
            reason,
            attempt.admission.backend.id,
            float(attempt.status),
        )

    def _note_first(self, attempt: Attempt) -> None:
        """Note when the first try began, now that it is not all there is.

        That keeps the note from the ordinary course, where nothing comes after it.
        """
        if self.service.keeps_decisions and self.record.tries == 1:
            backend = attempt.admission.backend.id
            self.record.note(NoteKind.TRY_BEGAN, attempt.started, reasons.COMPLETED, backend, 1.0)

    def _note_begin(self, kind: NoteKind, admission: Admission, *numbers: float) -> None:
        """Note a try that is not the first."""
        if not self.service.keeps_decisions:
            return
        now = self.service.runtime.now()
        self.record.note(kind, now, reasons.COMPLETED, admission.backend.id, *numbers)

    # --- accounts -----------------------------------------------------------------------------

    def _remember_tries(self) -> Tries:
        tries = self.tries
        if tries is None:
            tries = self.tries = Tries()
        return tries

    def _spend(self) -> bool:
        """Take a retry from the budget, if one is left."""
        budget = self.upstream.retry.budget
        if budget is None:
            return True
        if budget.spend(self.service.runtime.now()):
            self._remember_tries().is_paid = True
            return True
        self.service.count("retry_budget_exhausted_total", upstream=self.upstream.name)
        return False

    def _give_back(self, tries: Tries) -> None:
        """Return a retry to the budget that was taken for a try which found no place."""
        budget = self.upstream.retry.budget
        if tries.is_paid and budget is not None:
            budget.give_back(self.service.runtime.now())
        tries.is_paid = False

    def _count_retry(self, outcome: str) -> None:
        """Count what became of the try under way, if it followed a failure."""
        tries = self._remember_tries()
        cause, tries.cause = tries.cause, None
        if cause is not None:
            self.service.count(
                "upstream_retries_total",
                upstream=self.upstream.name,
                reason=cause.code,
                outcome=outcome,
            )

    def _count_hedge(self, outcome: str) -> None:
        """Count what became of the second of two tries, if there was one."""
        tries = self._remember_tries()
        hedge, tries.hedge = tries.hedge, None
        if hedge is not None:
            self.service.count("hedges_total", upstream=self.upstream.name, outcome=outcome)
