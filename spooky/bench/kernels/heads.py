"""The heads that the cases of ``validate``, ``fields`` and ``qpack`` work on."""

from typing import Final

# What a browser sends for a sub-resource: 15 fields, pseudo-headers included.
REQUEST: Final = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"www.example.com"),
    (b":path", b"/assets/app/main.6f2c1.js?v=20260101&lang=en"),
    (
        b"user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        b"Chrome/140.0.0.0 Safari/537.36",
    ),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9,de;q=0.8"),
    (b"referer", b"https://www.example.com/products/overview"),
    (b"sec-ch-ua", b'"Chromium";v="140", "Not=A?Brand";v="24"'),
    (b"sec-fetch-mode", b"no-cors"),
    (b"sec-fetch-site", b"same-origin"),
    (b"cookie", b"session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes"),
    (b"cache-control", b"no-cache"),
    (b"priority", b"u=1, i"),
]

RESPONSE: Final = [
    (b":status", b"200"),
    (b"date", b"Mon, 23 Nov 2026 23:00:00 GMT"),
    (b"server", b"nginx"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"15234"),
    (b"connection", b"keep-alive"),
    (b"cache-control", b"max-age=600"),
    (b"etag", b'"5f1a-33ab"'),
    (b"vary", b"accept-encoding"),
    (b"x-request-id", b"0123456789abcdef"),
]

TRAILERS: Final = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
