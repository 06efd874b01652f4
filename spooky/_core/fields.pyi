"""Field-block work between the two sides of an exchange: strip, forward, rewrite, pack."""

from spooky._core.validate import Request, Response

Field = tuple[bytes, bytes]

class ForwardingPolicy:
    """How requests to one upstream are rewritten.

    Arguments:
        forwarded: ``overwrite``, ``append`` or ``preserve``, for ``Forwarded`` and
            ``X-Forwarded-For``, ``-Proto`` and ``-Host``.
        host_mode: ``pass_through``, ``rewrite`` or ``upstream``.
        host: The authority for ``rewrite``.

    Attributes:
        appends: Whether ``forwarded`` is ``append``.
    """

    appends: bool

    def __init__(
        self,
        forwarded: str = "overwrite",
        host_mode: str = "pass_through",
        host: bytes = b"",
    ) -> None: ...

def forward_request(
    request: Request,
    policy: ForwardingPolicy,
    client_address: bytes,
    client_scheme: bytes,
    backend_scheme: bytes,
    backend_authority: bytes,
) -> list[Field]:
    """Return the head to send upstream: pseudo-headers, then the fields that may pass.

    Hop-by-hop fields and those that ``Connection`` names are stripped (RFC 9110 section 7.6.1);
    ``te: trailers`` stays; ``content-length`` is put back when declared; forwarding fields follow
    the policy. ``:path`` is the canonical path with its query.

    Arguments:
        client_address: The client's IP address as text, IPv6 without brackets.
        client_scheme: The scheme the client used, for ``proto``.
    """

def forward_response(response: Response, extra: tuple[Field, ...]) -> list[Field]:
    """Return the head to send to the client: ``:status``, the fields that may pass, ``extra``.

    ``content-length`` is put back when declared. A field named in ``extra`` replaces the
    backend's.
    """

def forward_trailers(fields: list[Field]) -> list[Field]:
    """Return the trailers that may pass: no hop-by-hop fields."""

def pack_http1_request(fields: list[Field], chunked: bool) -> bytes:
    """Return an HTTP/1.1 request head, from pseudo-headers and fields, in origin form.

    Exactly one ``Host`` is sent, from ``:authority``, first. ``te: trailers`` gains
    ``Connection: TE`` (RFC 9110 section 10.1.4). Cookie crumbs are joined with ``; ``
    (RFC 9113 section 8.2.3).

    Arguments:
        chunked: Whether the body will be sent with ``transfer-encoding: chunked``.
    """

def pack_http1_response(fields: list[Field], chunked: bool, close: bool) -> bytes:
    """Return an HTTP/1.1 response head, from ``:status`` and fields.

    Arguments:
        chunked: Whether the body will be sent with ``transfer-encoding: chunked``.
        close: Whether to announce ``connection: close``.
    """
