"""The responses that Spooky gives itself."""

from email.utils import formatdate

from spooky._core.reasons import Reason
from spooky.observe.outcomes import is_shed
from spooky.protocol.stream import Field

RETRY_AFTER_SECONDS = 1
"""What those who were shed for want of room are told to wait, if no policy says otherwise."""


def answer_fields(
    reason: Reason, extra: tuple[Field, ...], retry_after: int = RETRY_AFTER_SECONDS
) -> tuple[list[Field], bytes]:
    """Return the head and the body of the answer for a reason.

    Arguments:
        extra: Fields that every response on this connection carries.
        retry_after: What those who were shed are told to wait; seconds.
    """
    body = reason.text.encode() + b"\n"
    fields = [
        (b":status", b"%d" % reason.status),
        (b"date", formatdate(usegmt=True).encode()),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    if is_shed(reason):
        fields.append((b"retry-after", b"%d" % retry_after))
    return fields, body
