"""The control frames of a connection's streams: written, and written again when lost.

RFC 9000 sections 13.3 and 19.4 to 19.14.
"""

from spooky._core.quic.stream_sender import StreamSender

class StreamControl(StreamSender):
    """The frames that say limits, and that end streams."""
