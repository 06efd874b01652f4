"""How much of HTTP/2 bodies is sent at once and kept unsent; the same for both roles."""

from typing import Final

MAX_FRAME_BYTES: Final = 16_384
"""The largest payload a peer may send: the default of SETTINGS_MAX_FRAME_SIZE, which we keep.

Larger frames would let one stream hold the connection for longer (RFC 9113 section 4.2).
"""

QUANTUM_BYTES: Final = 16_384
"""What a stream may send before the next one has its turn: one frame of the usual largest size."""

TRANSMIT_BYTES: Final = 256 * 1024
"""Body bytes after which ``transmit`` returns, so that one connection does not hold the loop."""

STREAM_BACKLOG_BYTES: Final = 256 * 1024
"""Unsent body bytes of a stream from which on more is not accepted: one window of the other side.

It is accepted again at half, so that a stream is told so once in many frames.
"""

CONNECTION_BACKLOG_BYTES: Final = 1024 * 1024
"""Unsent body bytes of all streams together from which on only the streams below the floor may
add to theirs. It bounds what a peer that stops reading can make us keep."""

BACKLOG_FLOOR_BYTES: Final = 16_384
"""Unsent body bytes that every stream may have, whatever the others have: a few streams that
their peer does not read must not stop the rest, which are other clients' on an upstream
connection."""

URGENCY_RESERVE_BYTES: Final = 64 * 1024
"""What each level of urgency leaves of the connection's backlog to the one above it (RFC 9218), so
that many less urgent bodies do not keep an urgent one out. The least urgent still have half."""

RETIRE_AFTER_CUT_BODIES: Final = 16
"""Bodies unlike their content-length after which a connection takes no new streams.

ngh2 loses the credit for the last frame of such a body, at most 16 KiB of a connection window of
1 MiB. Sixteen of them cannot starve the streams that are left.
"""
