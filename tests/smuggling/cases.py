"""Hostile requests: what smugglers say, by what they tamper with.

Cases of :func:`common` are said in all client protocols; those of :func:`framing` are HTTP/1.1
messages byte by byte, those of :func:`pseudo` are heads that only HTTP/2 and HTTP/3 can say.
"""

from collections.abc import Iterator
from dataclasses import dataclass

Fields = tuple[tuple[bytes, bytes], ...]

OPEN = b"/open/page"
"""A path that is routed to the backend which everybody may use."""

SECOND = b"GET /closed/secret HTTP/1.1\r\nhost: localhost\r\n\r\n"
"""What a smuggler wants a backend to take for a request."""

CONTROLS = (0x00, 0x01, 0x07, 0x08, 0x0A, 0x0B, 0x0C, 0x0D, 0x1B, 0x7F, 0x80, 0xA0, 0xFF)
"""Octets that are no part of a token, and of most other elements neither."""


@dataclass(frozen=True)
class Case:
    """One hostile request.

    Attributes:
        kind: What it tampers with.
        name: How, for whoever reads a failure.
        method, path, authority: The request; no authority where ``None``.
        fields: Beside those.
        body: What follows the head; nothing where ``None``.
        trailers: What follows the body.
        raw: The whole message, where HTTP/1.1 alone can say it.
        head: The whole head, where HTTP/2 and HTTP/3 alone can say it.
    """

    kind: str
    name: str
    method: bytes = b"GET"
    path: bytes = OPEN
    authority: bytes | None = b"localhost"
    fields: Fields = ()
    body: bytes | None = None
    trailers: Fields = ()
    raw: bytes | None = None
    head: Fields = ()


def common() -> list[Case]:
    """Return the cases for all client protocols."""
    makers = (
        _methods, _paths, _authorities, _lengths, _transfer_encodings, _connections,
        _names, _values, _bodies, _trailers, _upgrades, _forwarded,
    )  # fmt: skip
    return [case for maker in makers for case in maker()]


def _methods() -> Iterator[Case]:
    for octet in CONTROLS:
        yield Case("method", f"octet {octet:#04x}", method=b"GE" + bytes([octet]) + b"T")
    for method in (
        b"", b" ", b"get", b"GET ", b" GET", b"GET\t", b"G ET", b"GET /closed/x HTTP/1.1\r\nx:",
        b"GET HTTP/1.1", b"PRI", b"CONNECT", b"TRACE", b"TRACK", b"DEBUG", b"PROPFIND", b"X" * 300,
        b"GET:", b"G(ET", b"GET,POST", b"\"GET\"", b"P\xc3\x96ST",
    ):  # fmt: skip
        yield Case("method", repr(method)[1:40], method=method)


def _paths() -> Iterator[Case]:
    for octet in CONTROLS:
        yield Case("path", f"octet {octet:#04x}", path=OPEN + bytes([octet]) + b"x")
    for path in (
        b"", b" ", b"*", b"open/page", b"/open/page HTTP/1.1", b"/open/page HTTP/1.1\r\nx: y",
        b"/open/../closed/secret", b"/open/%2e%2e/closed/secret", b"/open/.%2e/closed",
        b"/open/%2E%2E%2Fclosed", b"/open/..%2fclosed/secret", b"/open/..;/closed/secret",
        b"/open/..\\closed", b"/open\\..\\closed", b"/open/%5c..%5cclosed", b"/open/./page",
        b"//closed/secret", b"/open//page", b"///open/page", b"/%2fclosed/secret",
        b"/open/%00", b"/open/%0d%0aX: y", b"/open/%0a", b"/open/%", b"/open/%4", b"/open/%zz",
        b"/open/%u002e%u002e/closed", b"/open/%c0%ae%c0%ae/closed", b"/open/%252e%252e/closed",
        b"/open/page#fragment", b"/open/page?#", b"/open/page?a=\r\nx", b"/open/page?a b",
        b"http://localhost/closed/secret", b"http://evil.test/open/page", b"https://localhost/open",
        b"//evil.test/open", b"/open/page?x=/../closed", b"/open/page;/../closed/secret",
        b"/OPEN/page", b"/closed/../open/page", b"/open/\xc3\xa9", b"/open/[x]", b"/open/{x}",
        b"/open/|x", b"/open/^", b"/open/`x`", b"/open/<x>", b"/open/\"x\"",
        b"/open/" + b"a" * 9000,
        b"@closed/secret", b"?x", b"/open/page?\x00",
    ):  # fmt: skip
        yield Case("path", repr(path)[1:44], path=path)


def _authorities() -> Iterator[Case]:
    for octet in CONTROLS:
        yield Case(
            "authority", f"octet {octet:#04x}", authority=b"local" + bytes([octet]) + b"host"
        )
    for authority in (
        None, b"", b" ", b"localhost ", b" localhost", b"localhost/closed", b"user@localhost",
        b"evil.test@localhost", b"localhost@evil.test", b"localhost, evil.test", b"localhost:",
        b"localhost:abc", b"localhost:99999", b"localhost:-1", b"localhost:443:443", b"localhost?x",
        b"localhost#x", b"localhost\\evil.test", b"[::1", b"::1", b"[::1]x", b"[v1.x]",
        b"%6cocalhost",
        b"localhost.", b"LOCALHOST", b"localhost:0443", b"localhost%00", b"localhost\r\nx: y",
        b"http://localhost", b"..", b"localhost;x",
    ):  # fmt: skip
        yield Case("authority", repr(authority)[1:40], authority=authority)
    for host in (b"evil.test", b"localhost:1", b"", b"localhost, evil.test", b"LOCALHOST"):
        yield Case("authority", f"and host {host!r}", fields=((b"host", host),))
    twice = ((b"host", b"localhost"), (b"host", b"localhost"))
    yield Case("authority", "and host twice", fields=twice)


def _lengths() -> Iterator[Case]:
    for length in (
        b"", b" ", b"-1", b"+5", b"5 ", b" 5", b"0x5", b"5_0", b"5.0", b"5e0", b"05", b"005",
        b"5,5",
        b"5, 5", b"5,6", b"5;5", b"\x005", b"5\x00", b"\xd9\xa5", b"five", b"18446744073709551621",
        b"4294967301", b"99999999999999999999999", b"5\r\ntransfer-encoding: chunked", b"0",
        b"4", b"6",
        b"5\t", b"\x0b5", b"5\n",
    ):  # fmt: skip
        field = ((b"content-length", length),)
        yield Case("length", repr(length)[1:40], b"POST", fields=field, body=b"abcde")
    for first, second in ((b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b""), (b"5", b"0")):
        fields = ((b"content-length", first), (b"content-length", second))
        yield Case("length", f"{first!r} and {second!r}", b"POST", fields=fields, body=b"abcde")
    for name in (
        b"content_length",
        b"Content-Length ",
        b"content-length\t",
        b"x-content-length",
        b"content-length:",
    ):
        yield Case("length", f"as {name!r}", b"POST", fields=((name, b"5"),), body=b"abcde")
    yield Case("length", "of a GET without a body", fields=((b"content-length", b"5"),))
    yield Case("length", "0 before a request", fields=((b"content-length", b"0"),), body=SECOND)


def _transfer_encodings() -> Iterator[Case]:
    body = b"0\r\n\r\n" + SECOND
    for coding in (
        b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked", b"\x0bchunked",
        b"chunked\x00", b"chunked, identity", b"identity, chunked", b"identity", b"gzip, chunked",
        b"chunked, chunked", b"chunked;q=1", b"\"chunked\"", b"xchunked", b"chunke", b"",
        b",chunked",
        b"chunked,", b"gzip", b"chunked\r\nx: y", b"cow", b"chunked\x0d", b"x, chunked",
    ):  # fmt: skip
        yield Case(
            "coding",
            repr(coding)[1:40],
            b"POST",
            fields=((b"transfer-encoding", coding),),
            body=body,
        )
    length = (b"content-length", b"%d" % len(body))
    for name in (
        b"transfer-encoding", b"Transfer-Encoding", b"transfer_encoding", b"transfer-encoding ",
        b" transfer-encoding", b"transfer-encoding\t", b"x-transfer-encoding",
        b"transfer\x00encoding",
        b"transfer-encoding:", b"\x00transfer-encoding", b"te", b"transfer-\xc3\xa9ncoding",
    ):  # fmt: skip
        fields = (length, (name, b"chunked"))
        yield Case("coding", f"as {name!r} with a length", b"POST", fields=fields, body=body)
        yield Case(
            "coding", f"as {name!r} before a length", b"POST", fields=fields[::-1], body=body
        )


def _connections() -> Iterator[Case]:
    for value in (
        b"close", b"keep-alive", b"content-length", b"transfer-encoding", b"host",
        b"x-forwarded-for",
        b"close, host", b"cookie", b"authorization", b":authority", b"upgrade", b"connection", b"",
        b"x y", b"\x00", b"te, close", b"x-secret",
    ):  # fmt: skip
        fields = ((b"connection", value), (b"x-secret", b"1"))
        yield Case("connection", repr(value)[1:40], b"POST", fields=fields, body=b"abcde")
    for name in (
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authenticate",
        b"http2-settings",
    ):
        yield Case("connection", name.decode(), fields=((name, b"x"),))
    yield Case("connection", "te: trailers", fields=((b"te", b"trailers"),))


def _names() -> Iterator[Case]:
    for octet in (*CONTROLS, *b' "(),/:;<=>?@[\\]{}'):
        yield Case("name", f"octet {octet:#04x}", fields=((b"x-a" + bytes([octet]) + b"b", b"1"),))
        yield Case("name", f"begins with {octet:#04x}", fields=((bytes([octet]) + b"x-a", b"1"),))
        yield Case("name", f"ends with {octet:#04x}", fields=((b"x-a" + bytes([octet]), b"1"),))
    for name in (
        b"",
        b":x",
        b":status",
        b":path",
        b":protocol",
        b"X-UPPER",
        b"x_under",
        b"x.dot",
        b"x-a\r\nhost",
        b"x" * 9000,
    ):
        yield Case("name", repr(name)[1:40], fields=((name, b"1"),))


def _values() -> Iterator[Case]:
    for octet in CONTROLS:
        yield Case("value", f"octet {octet:#04x}", fields=((b"x-a", b"1" + bytes([octet]) + b"2"),))
        yield Case("value", f"begins with {octet:#04x}", fields=((b"x-a", bytes([octet]) + b"1"),))
        yield Case("value", f"ends with {octet:#04x}", fields=((b"x-a", b"1" + bytes([octet])),))
    for value in (
        b"1\r\nhost: evil.test", b"1\nhost: evil.test", b"1\rhost: evil.test",
        b"1\r\n\r\n" + SECOND,
        b"1\n\n" + SECOND, b"1\r\n folded", b"1\xe5\x98\x8a\xe5\x98\x8dhost: evil.test",
        b"1\r\n\tfolded",
        b" ", b"\t", b"x" * 20000,
    ):  # fmt: skip
        yield Case("value", repr(value)[1:40], fields=((b"x-a", value),))
    yield Case("value", "of many fields", fields=((b"x-a", b"1"),) * 400)


def _bodies() -> Iterator[Case]:
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"POST"):
        length = ((b"content-length", b"%d" % len(SECOND)),)
        yield Case("body", f"of {method.decode()}, a request", method, fields=length, body=SECOND)
        yield Case("body", f"of {method.decode()}, without a length", method, body=SECOND)
    for body in (b"0\r\n\r\n", b"\r\n" + SECOND, b"5\r\nabcde\r\n0\r\n\r\n", b"\x00" * 10):
        length = ((b"content-length", b"%d" % len(body)),)
        yield Case("body", repr(body)[1:40], b"POST", fields=length, body=body)


def _trailers() -> Iterator[Case]:
    for name, value in (
        (b"x-trailer", b"1"), (b"content-length", b"5"), (b"transfer-encoding", b"chunked"),
        (b"host", b"evil.test"), (b":path", b"/closed"), (b"connection", b"close"),
        (b"x-a", b"1\r\nhost: evil.test"), (b"x-a\r\n\r\nGET", b"1"), (b"", b"1"),
        (b"X-Upper", b"1"),
        (b"x-a", b"\x00"), (b"authorization", b"Basic eDp5"), (b"x a", b"1"), (b"cookie", b"a=b"),
    ):  # fmt: skip
        yield Case(
            "trailer",
            f"{name!r}: {value!r}"[:44],
            b"POST",
            body=b"abcde",
            trailers=((name, value),),
        )


def _upgrades() -> Iterator[Case]:
    for protocol in (b"h2c", b"websocket", b"HTTP/2.0", b"TLS/1.0", b"x\r\ny: z"):
        fields = (
            (b"connection", b"upgrade, http2-settings"),
            (b"upgrade", protocol),
            (b"http2-settings", b"AAMAAABk"),
        )
        yield Case("upgrade", repr(protocol)[1:40], fields=fields)
        yield Case("upgrade", f"{protocol!r} and data", fields=fields, body=SECOND)
    for expectation in (b"100-continue", b"100-Continue, x", b"x", b"", b"100-continue\r\nx: y"):
        fields = ((b"expect", expectation), (b"content-length", b"5"))
        yield Case("upgrade", f"expect {expectation!r}", b"POST", fields=fields, body=b"abcde")


def _forwarded() -> Iterator[Case]:
    for name, value in (
        (b"x-forwarded-host", b"evil.test"), (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-original-url", b"/closed"),
        (b"x-rewrite-url", b"/closed"), (b"forwarded", b"for=127.0.0.1;host=evil.test"),
        (b"x-http-method-override", b"PUT"),
        (b"x-forwarded-proto", b"http"), (b"x-forwarded-for", b"1\r\nhost: evil.test"),
        (b"x-real-ip", b"127.0.0.1"),
    ):  # fmt: skip
        yield Case("forwarded", f"{name.decode()}: {value!r}"[:44], fields=((name, value),))


def framing() -> list[Case]:
    """Return HTTP/1.1 messages that lie about where they end."""
    line, host = b"POST /open/page HTTP/1.1\r\n", b"host: localhost\r\n"
    te, end = b"transfer-encoding: chunked\r\n", b"\r\n"
    chunked = line + host + te + end
    raws = {
        "bare LF": chunked.replace(b"\r\n", b"\n") + b"0\n\n",
        "bare CR": chunked.replace(b"\r\n", b"\r") + b"0\r\r",
        "LF after the request line": line.replace(b"\r\n", b"\n") + host + end,
        "LF after a field": line + b"host: localhost\nx: y\r\n" + end,
        "folded field": line + host + b"x: y\r\n  z\r\n" + end,
        "folded coding": line + host + b"transfer-encoding:\r\n chunked\r\n" + end + b"0\r\n\r\n",
        "folded first field": line + b" x: y\r\n" + host + end,
        "space before colon": line + host + b"content-length : 5\r\n" + end + b"abcde",
        "tab before colon": line + host + b"transfer-encoding\t: chunked\r\n" + end + b"0\r\n\r\n",
        "no colon": line + host + b"content-length\r\n" + end,
        "length and coding": line
        + host
        + b"content-length: 5\r\n"
        + te
        + end
        + b"0\r\n\r\n"
        + SECOND,
        "coding and length": line
        + host
        + te
        + b"content-length: 5\r\n"
        + end
        + b"0\r\n\r\n"
        + SECOND,
        "coding twice": line + host + te + te + end + b"0\r\n\r\n",
        "coding twice, other": line
        + host
        + te
        + b"transfer-encoding: identity\r\n"
        + end
        + b"0\r\n\r\n",
        "coding and HTTP/1.0": line.replace(b"1.1", b"1.0") + host + te + end + b"0\r\n\r\n",
        "HTTP/1.0 without a host": b"GET /open/page HTTP/1.0\r\n\r\n",
        "HTTP/0.9": b"GET /open/page\r\n",
        "HTTP/1.2": line.replace(b"1.1", b"1.2") + host + end,
        "HTTP/2.0": line.replace(b"1.1", b"2.0") + host + end,
        "HTTP/1": line.replace(b"1.1", b"1") + host + end,
        "http/1.1": line.replace(b"HTTP", b"http") + host + end,
        "HTTP/1.10": line.replace(b"1.1", b"1.10") + host + end,
        "no version, a space": b"GET /open/page \r\n" + host + end,
        "two spaces": b"GET  /open/page HTTP/1.1\r\n" + host + end,
        "tab for space": b"GET\t/open/page\tHTTP/1.1\r\n" + host + end,
        "space after the version": line.replace(b"\r\n", b" \r\n") + host + end,
        "vertical tab for space": b"GET\x0b/open/page\x0bHTTP/1.1\r\n" + host + end,
        "empty lines first": b"\r\n\r\n" + b"GET /open/page HTTP/1.1\r\n" + host + end,
        "space first": b" GET /open/page HTTP/1.1\r\n" + host + end,
        "absolute form": b"GET http://localhost/open/page HTTP/1.1\r\n" + host + end,
        "absolute form, other host": b"GET http://evil.test/open/page HTTP/1.1\r\n" + host + end,
        "absolute form, other path": b"GET http://localhost/closed/x HTTP/1.1\r\n" + host + end,
        "authority form": b"GET localhost:443 HTTP/1.1\r\n" + host + end,
        "two hosts": line + host + b"host: evil.test\r\n" + end,
        "body of a GET, pipelined": b"GET /open/page HTTP/1.1\r\n" + host + end + SECOND,
        "nul first": b"\x00GET /open/page HTTP/1.1\r\n" + host + end,
        "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }
    sizes = (
        b"", b"-1", b"+5", b"0x5", b"5 ", b" 5", b"05", b"0005", b"5;", b"5;x", b"5;x=\"\r\n\"",
        b"5;x\n", b"G",
        b"5\x00", b"5\t", b"5_0", b"FFFFFFFFFFFFFFFF", b"10000000000000005",
        b"00000000000000000000005", b"5\r", b"5\n",
        b"5;" + b"x" * 20000,
    )  # fmt: skip
    for size in sizes:
        raws[f"chunk size {size[:20]!r}"] = chunked + size + b"\r\nabcde\r\n0\r\n\r\n"
    chunks = {
        "without its end": b"5\r\nabcde0\r\n\r\n",
        "ends with LF": b"5\r\nabcde\n0\r\n\r\n",
        "ends with CR": b"5\r\nabcde\r0\r\n\r\n",
        "too long": b"5\r\nabcdefg\r\n0\r\n\r\n",
        "too short": b"5\r\nabc\r\n0\r\n\r\n" + SECOND,
        "last is 00": b"5\r\nabcde\r\n00\r\n\r\n",
        "last with data": b"5\r\nabcde\r\n0\r\nabc",
        "LF ends all": b"5\nabcde\n0\n\n" + SECOND,
        "last ends with LF": b"0\n\n" + SECOND,
        "trailer that smuggles": b"0\r\nx: y\n\n" + SECOND,
        "trailer with a length": b"0\r\ncontent-length: 50\r\n\r\n" + SECOND,
        "then a request": b"0\r\n\r\n" + SECOND,
    }
    for name, body in chunks.items():
        raws[f"chunk {name}"] = chunked + body
    return [Case("framing", name, raw=raw) for name, raw in raws.items()]


def pseudo() -> list[Case]:
    """Return heads whose pseudo-header fields are wrong (RFC 9113 and RFC 9114 section 4.3)."""
    method, scheme = (b":method", b"GET"), (b":scheme", b"https")
    authority, path = (b":authority", b"localhost"), (b":path", OPEN)
    good = (method, scheme, authority, path)
    heads: dict[str, Fields] = {
        f"without {field[0].decode()}": tuple(kept for kept in good if kept != field)
        for field in good
    }
    heads |= {f"twice {field[0].decode()}": (*good, field) for field in good}
    other = {
        b":method": b"POST",
        b":scheme": b"http",
        b":authority": b"evil.test",
        b":path": b"/closed/x",
    }
    heads |= {f"two of {name.decode()}": (*good, (name, value)) for name, value in other.items()}
    heads |= {
        "after a field": (method, scheme, path, (b"x-a", b"1"), authority),
        "unknown": (*good, (b":x", b"1")),
        ":status": (*good, (b":status", b"200")),
        ":protocol": (*good, (b":protocol", b"websocket")),
        "CONNECT with :protocol": (
            (b":method", b"CONNECT"),
            *good[1:],
            (b":protocol", b"websocket"),
        ),
        "CONNECT with a path": ((b":method", b"CONNECT"), *good[1:]),
        "CONNECT": ((b":method", b"CONNECT"), (b":authority", b"localhost:443")),
        ":scheme http": (method, (b":scheme", b"http"), authority, path),
        ":scheme with a request": (
            method,
            (b":scheme", b"https://localhost/closed?"),
            authority,
            path,
        ),
        ":scheme empty": (method, (b":scheme", b""), authority, path),
        ":Path": (method, scheme, authority, (b":Path", OPEN)),
        "a name with a space": (method, scheme, authority, (b":path ", OPEN)),
        "nothing": ((b"x-a", b"1"),),
        "host for :authority": (method, scheme, path, (b"host", b"localhost")),
        "another host": (*good, (b"host", b"evil.test")),
    }
    return [Case("pseudo", name, head=head) for name, head in heads.items()]
