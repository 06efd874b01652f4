"""Request and response heads: from fields off the wire to a canonical head, or a reason."""

from collections.abc import Collection, Sequence

from spooky._core.reasons import Reason

HTTP_1: int
HTTP_2: int
HTTP_3: int

UNDERSCORES_PASS: int
"""Fields with an underscore in their name pass as they are."""

UNDERSCORES_DROP: int
"""They are left out, as if they had not come."""

UNDERSCORES_REJECT: int
"""A request that has one is refused."""

class Limits:
    """What a request head may be.

    Attributes:
        max_headers_count: Fields, pseudo-headers included.
        max_headers_bytes: Sum of name and value lengths, bytes.
        enforce_authority_host_match: Refuse a ``Host`` that differs from ``:authority``.
        allowed_methods: Methods let through; empty means every method.
        denied_path_prefixes: Canonical path prefixes refused with 403 (plain string prefixes).
        underscores: What becomes of fields with an underscore in their name: one of the above.
    """

    max_headers_count: int
    max_headers_bytes: int
    enforce_authority_host_match: bool
    allowed_methods: frozenset[bytes]
    denied_path_prefixes: tuple[bytes, ...]
    underscores: int

    def __init__(
        self,
        max_headers_count: int = 128,
        max_headers_bytes: int = 16384,
        enforce_authority_host_match: bool = True,
        allowed_methods: Collection[bytes] = (),
        denied_path_prefixes: Sequence[bytes] = (),
        underscores: int = ...,
    ) -> None: ...

class Request:
    """A canonical request head.

    Attributes:
        method: As sent; methods are case-sensitive (RFC 9110 section 9.1).
        scheme: ``http`` or ``https``.
        authority: As sent, from ``:authority`` or else ``Host``.
        host: For routing: lowercase, no port, no trailing dot; IPv6 in brackets.
        port: Port named by the authority, or -1.
        path: Canonical path: unreserved bytes percent-decoded, nothing else changed; no query.
        query: What follows the first ``?``, or ``None`` if there is none.
        fields: Regular fields in their order, without ``host`` and ``content-length``.
        content_length: Declared length in bytes, or -1.
        version: ``HTTP_1``, ``HTTP_2`` or ``HTTP_3``.
        dropped: Fields that were left out for the underscore in their name.
    """

    method: bytes
    scheme: bytes
    authority: bytes
    host: bytes
    port: int
    path: bytes
    query: bytes | None
    fields: list[tuple[bytes, bytes]]
    content_length: int
    version: int
    dropped: int

class Response:
    """A canonical response head.

    Attributes:
        status: 100 to 599; never 101.
        fields: Regular fields in their order, without ``content-length``.
        content_length: Declared length in bytes, or -1.
    """

    status: int
    fields: list[tuple[bytes, bytes]]
    content_length: int

def validate_request(
    fields: list[tuple[bytes, bytes]], version: int, limits: Limits
) -> Request | Reason:
    """Check a request head and make it canonical.

    Arguments:
        fields: As they came off the wire, pseudo-headers included; HTTP/1 sessions make them from
            the request line (``:method``, ``:scheme``, ``:path``, and ``:authority`` only for the
            absolute form).
        version: ``HTTP_1``, ``HTTP_2`` or ``HTTP_3``; connection-specific fields are an error in
            the latter two (RFC 9113 section 8.2.2, RFC 9114 section 4.2); ``host`` is required in
            the first, beside ``:authority`` too (RFC 9112 section 3.2).

    Returns:
        The canonical request, or the reason of the first rule broken.
    """

def validate_response(
    fields: list[tuple[bytes, bytes]], max_count: int, max_bytes: int
) -> Response | Reason:
    """Check a response head from a backend and make it canonical.

    Returns:
        The response, or ``UPSTREAM_BAD_RESPONSE`` or ``UPSTREAM_FIELDS_TOO_LARGE``.
    """

def validate_trailers(
    fields: list[tuple[bytes, bytes]], max_count: int, max_bytes: int, underscores: int = ...
) -> Reason | None:
    """Check trailers: no pseudo-headers, no framing or routing fields (RFC 9110 section 6.5.1).

    Arguments:
        fields: Those with underscores in their names are taken out of it, if they are to be.
        underscores: What becomes of those.

    Returns:
        ``None`` if they may be forwarded (after stripping), else the reason.
    """
