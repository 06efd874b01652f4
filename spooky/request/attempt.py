"""One try of an exchange at one backend: the upstream side of the join."""

from typing import TYPE_CHECKING, Final

from spooky._core.fields import forward_request
from spooky._core.reasons import Reason
from spooky.protocol.stream import Field, Stream
from spooky.request.admission import Admission

if TYPE_CHECKING:
    from spooky.request.exchange import Exchange

EARLY_DATA: Final = b"early-data"


class Attempt:
    """Asks a pool for a stream and hands the exchange what it delivers.

    Attributes:
        stream: The upstream stream, from when there is one until the end.
        reused: Whether its connection served requests before.
        heard: Whether anything came back.
        over: Whether it ended.
        owed: Response bytes delivered that the client has not accepted.
    """

    __slots__ = (
        "_exchange", "admission", "heard", "over", "owed", "reused", "stream",
    )  # fmt: skip

    def __init__(self, exchange: "Exchange", admission: Admission) -> None:
        self._exchange = exchange
        self.admission = admission
        self.stream: Stream | None = None
        self.reused = False
        self.heard = False
        self.over = False
        self.owed = 0

    def start(self) -> None:
        """Ask for a stream."""
        self.admission.backend.pool.request(self)

    def give_up(self, reason: Reason) -> None:
        """End it from our side; nothing more is heard of it."""
        if self.over:
            return
        self.over = True
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.reset(reason)
        else:
            self.admission.backend.pool.cancel(self)

    def head(self) -> list[Field]:
        """Return the request head for the backend."""
        backend = self.admission.backend
        exchange = self._exchange
        fields = forward_request(
            exchange.request,
            self.admission.upstream.forwarding,
            exchange.client.address,
            b"https",
            backend.scheme,
            backend.authority,
        )
        if exchange.client.is_early:
            # RFC 8470 section 5.1: the backend judges whether a replay would matter.
            fields = [field for field in fields if field[0] != EARLY_DATA]
            fields.append((EARLY_DATA, b"1"))
        return fields

    # --- the pool's upcalls -------------------------------------------------------------------

    def on_connected(self, stream: Stream, reused: bool) -> None:
        """Take the stream."""
        self.stream = stream
        self.reused = reused
        self._exchange.on_upstream_connected(self, stream)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """Pass the failure on."""
        self.over = True
        self._exchange.on_upstream_failed(self, reason, detail)

    # --- the stream's upcalls -----------------------------------------------------------------

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Pass the response head on."""
        self.heard = True
        self._exchange.on_response_head(self, fields, end)

    def on_informational(self, fields: list[Field]) -> None:
        """Pass a 1xx head on."""
        self.heard = True
        self._exchange.on_response_informational(fields)

    def on_data(self, data: bytes, end: bool) -> None:
        """Pass a piece of the response body on."""
        self._exchange.on_response_data(self, data, end)

    def on_trailers(self, fields: list[Field]) -> None:
        """Pass the response trailers on."""
        self._exchange.on_response_trailers(self, fields)

    def on_reset(self, reason: Reason) -> None:
        """Pass the failure on."""
        self.over = True
        self.stream = None
        self._exchange.on_upstream_failed(self, reason, "")

    def on_stopped(self) -> None:
        """Do nothing: what is sent from now on is dropped by the session."""

    def on_writable(self) -> None:
        """Let the client send on."""
        self._exchange.on_upstream_writable()
