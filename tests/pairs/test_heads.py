"""Heads, trailers and statuses on every pair."""

import json

import pytest

from tests.pairs.conftest import Pair
from tests.support.client import Http2Client, Http3Client
from tests.support.proxy import Setup


def test_head_requests_get_the_length_and_no_body(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("HEAD", "/head-length")
        assert (response.status, response.cut) == (200, None)
        assert response.header(b"content-length") == b"12345"
        assert bytes(response.body) == b""
        # The connection is still in step.
        assert (await client.fetch("GET", "/size/3")).status == 200

    pair.run(scenario)


@pytest.mark.parametrize("status", [204, 304, 404, 500])
def test_statuses_pass_and_those_without_a_body_have_none(pair: Pair, status: int) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("GET", f"/status/{status}")
        assert (response.status, response.cut, bytes(response.body)) == (status, None, b"")
        assert response.header(b"x-status") == b"%d" % status
        assert (await client.fetch("GET", "/size/3")).status == 200

    pair.run(scenario)


def test_a_304_keeps_the_length_it_tells_and_has_no_body(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        stream = await client.open("GET", "/not-modified")
        if isinstance(client, Http3Client):
            client.protocol.http.bodiless.add(0)
        if isinstance(client, Http2Client):
            # h2 does not know RFC 9113 section 8.1.1 for other methods than HEAD.
            client.h2.streams[1]._track_content_length = lambda length, end: None
        response = await stream.whole()
        assert (response.status, response.cut, bytes(response.body)) == (304, None, b"")
        assert response.header(b"content-length") == b"12345"
        assert (await client.fetch("GET", "/size/3")).status == 200

    pair.run(scenario)


def test_informational_responses_come_before_the_final_one(pair: Pair) -> None:
    """RFC 9110 section 15.2, RFC 8297."""

    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", "/early-hints")
        assert response.status == 200
        assert [status for status, _ in response.informational] == [102, 103]
        assert dict(response.informational[1][1])[b"link"] == b"</style.css>; rel=preload"

    pair.run(scenario)


def test_response_trailers_pass(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", "/trailers", [(b"te", b"trailers")])
        assert bytes(response.body) == b"body"
        assert (b"grpc-status", b"0") in response.trailers

    pair.run(scenario)


def test_request_trailers_pass(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/inspect", end=False)
        await stream.send(b"body")
        await stream.send_trailers([(b"x-checksum", b"abc")])
        seen = json.loads((await stream.whole()).body)
        assert seen["body"] == "body"
        assert ["x-checksum", "abc"] in seen["trailers"]

    pair.run(scenario)


def test_requests_arrive_with_forwarding_fields_and_without_hop_by_hop_ones(pair: Pair) -> None:
    """RFC 9110 section 7.6.1, RFC 7239."""

    async def scenario(setup: Setup) -> None:
        fields = [(b"x-custom", b"kept"), (b"x-forwarded-for", b"203.0.113.9")]
        if setup.ingress == "h1":
            fields += [(b"connection", b"x-nominated"), (b"x-nominated", b"1")]
            fields += [(b"keep-alive", b"timeout=5")]
        response = await (await setup.client()).fetch("GET", "/inspect?q=%20a", fields)
        seen = json.loads(response.body)
        headers = dict(seen["headers"])
        assert seen["path"] == "/inspect?q=%20a"
        assert headers["x-custom"] == "kept"
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-forwarded-host"] == "localhost"
        assert "proto=https" in headers["forwarded"]
        assert headers.get("host", headers.get(":authority")) == "localhost"
        for name in ("connection", "x-nominated", "keep-alive", "proxy-connection"):
            assert name not in headers

    pair.run(scenario)


def test_cookies_survive_the_change_of_protocol(pair: Pair) -> None:
    """RFC 9113 section 8.2.3: crumbs are joined for HTTP/1.1."""

    async def scenario(setup: Setup) -> None:
        crumbs = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
        if setup.ingress == "h1":
            crumbs = [(b"cookie", b"a=1; b=2")]
        response = await (await setup.client()).fetch("GET", "/inspect", crumbs)
        cookies = [
            value for name, value in json.loads(response.body)["headers"] if name == "cookie"
        ]
        assert "; ".join(cookies) == "a=1; b=2"

    pair.run(scenario)


def test_only_tcp_responses_advertise_http3(pair: Pair) -> None:
    """RFC 7838: Alt-Svc names the port that both transports share."""

    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", "/size/1")
        alt_svc = response.header(b"alt-svc")
        if setup.ingress == "h3":
            assert alt_svc is None
        else:
            assert alt_svc == b'h3=":%d"; ma=86400' % setup.proxy.port

    pair.run(scenario)


def test_refusals_of_ours_are_answers_too(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("GET", "/a/../b")
        assert (response.status, response.cut) == (400, None)
        assert b"dot segment" in bytes(response.body)
        assert (await client.fetch("GET", "/size/3")).status == 200

    pair.run(scenario)
