"""ngh2, the binding of libnghttp2, configured by our limits.

What we rely on beyond its documentation is in ``tests/protocol/h2/test_ngh2_contract.py``.
"""

from collections.abc import Mapping
from functools import cache
from typing import ClassVar, Final

import ngh2
from ngh2 import Setting

from spooky.protocol.h2.limits import Limits, Rate

RESETS_SHARE: Final = 2
"""How many times our limit the resets are that nghttp2 lets pass. It is behind our own gate: it
counts whole seconds, so with the same limit it can be the first to have enough, and then calls
that an error of its own (INTERNAL_ERROR) and not of the peer."""

GLITCHES: Final = (10_000, 330)
"""What nghttp2 lets pass of frames that are legal and odd: its default, behind our own gate."""

MAX_ENCODER_TABLE_BYTES: Final = 4_096
"""Our side's HPACK table, whatever the peer allows (attack 6)."""


def _behind(rate: Rate) -> Rate:
    """Return a limit that ours is always reached before."""
    burst, per_second = rate
    return RESETS_SHARE * burst, RESETS_SHARE * per_second


@cache
def _configuration(limits: Limits) -> ngh2.Configuration:
    """Return what ngh2 makes of our limits."""
    return ngh2.Configuration(
        auto_window_update=False,
        peer_max_concurrent_streams=limits.max_concurrent_streams,
        max_reserved_remote_streams=0,
        max_send_header_block_length=limits.engine_header_list_bytes,
        max_outbound_ack=limits.max_pending_acks,
        max_settings=limits.max_settings,
        stream_reset_rate_limit=_behind(limits.peer_resets),
        max_continuations=limits.max_continuations,
        glitch_rate_limit=GLITCHES,
        max_deflate_dynamic_table_size=MAX_ENCODER_TABLE_BYTES,
        max_inbound_header_list_size=limits.engine_header_list_bytes,
        max_inbound_header_count=limits.engine_header_count,
    )


class Engine(ngh2.Connection):
    """An ngh2 connection whose preface is on its way.

    Arguments:
        client: Whether this side opens streams.
        limits: What the peer may send.
    """

    EVENTS: ClassVar[Mapping[str, type]] = {
        event.__name__: event
        for event in (
            ngh2.RequestReceived,
            ngh2.ResponseReceived,
            ngh2.InformationalResponseReceived,
            ngh2.TrailersReceived,
            ngh2.DataReceived,
            ngh2.StreamReset,
            ngh2.StreamClosed,
            ngh2.SettingsReceived,
            ngh2.PriorityUpdateReceived,
            ngh2.PingAcknowledged,
            ngh2.GoAwayReceived,
            ngh2.ConnectionClosed,
        )
    }
    ERRORS: ClassVar[tuple[type[Exception], ...]] = (ngh2.NGH2Error,)
    OVERLOAD_ERRORS: ClassVar[tuple[type[Exception], ...]] = (ngh2.DenialOfServiceError,)

    def __init__(self, client: bool, limits: Limits) -> None:
        super().__init__(ngh2.Role.CLIENT if client else ngh2.Role.SERVER, _configuration(limits))
        settings = {
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.advertised_header_list_bytes,
        }
        if client:
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = limits.max_concurrent_streams
            settings[Setting.NO_RFC7540_PRIORITIES] = 1
        self.initiate_connection(settings)
        self.set_local_window_size(limits.connection_window(client))
