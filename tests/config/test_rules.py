"""Rules across values, one by one: message, place and path.

The mark ⟦ stands before the place that must be named.
"""

import pytest

from spooky import _core
from spooky.config import Severity, diagnose_text, load_text
from tests.config.support import marked, minimal, only, problems, where, with_backend

BACKENDS = "backends: [{id: a, address: 'http://127.0.0.1:80'}]"


def check(text, path, words, severity=Severity.ERROR):
    text, line, column = marked(text)
    problem = only(text)
    assert words in problem.message
    assert where(problem) == (line, column, path)
    assert problem.severity is severity
    return problem


# --- listeners --------------------------------------------------------------------------------
UPSTREAM = "upstream: {api: {route: {host: a}, backends: [{id: a, address: 'http://a'}]}}\n"


@pytest.mark.parametrize(
    ("listen", "path", "words"),
    [
        ("address: ⟦localhost", "listen.address", "is not an IP address"),
        ("address: ⟦127.0.0.1:80", "listen.address", "is not an IP address"),
        ('address: ⟦"[::1]"', "listen.address", "is not an IP address"),
        ('address: ⟦"*"', "listen.address", "is not an IP address"),
        ("port: ⟦65536", "listen.port", "from 0 to 65535"),
        ("protocol: ⟦http2", "listen.protocol", "expected http3"),
    ],
)
def test_where_a_listener_listens_is_checked(listen, path, words):
    text = f"listen:\n  {listen}\n  tls: {{cert: c, key: k}}\n{UPSTREAM}"
    problem = check(text, path, words)
    assert problem.remedy or "port" in path or "protocol" in path


@pytest.mark.parametrize(
    ("tls", "path", "words"),
    [
        ("tls: ⟦{}", "listen.tls", "no certificate"),
        ("tls: ⟦{strict_sni: true}", "listen.tls", "no certificate"),
        ("tls: {cert: ⟦c}", "listen.tls.cert", "cert is given without key"),
        ("tls: {key: ⟦k}", "listen.tls.key", "key is given without cert"),
        (
            "tls: {certificates: [{server_name: ⟦127.0.0.1, cert: c, key: k}]}",
            "listen.tls.certificates[0].server_name",
            "send no server name",
        ),
        (
            "tls: {certificates: [{server_name: ⟦'a.example:443', cert: c, key: k}]}",
            "listen.tls.certificates[0].server_name",
            "is not a host name",
        ),
        (
            "tls: {certificates: [{server_name: ⟦'a.*.example', cert: c, key: k}]}",
            "listen.tls.certificates[0].server_name",
            "wildcard",
        ),
        (
            "tls: {certificates: [{server_name: a.example, cert: c, key: k}, "
            "{server_name: ⟦A.example., cert: c, key: k}]}",
            "listen.tls.certificates[1].server_name",
            "listen.tls.certificates[0].server_name is the same name",
        ),
        (
            "tls: {certificates: [{server_name: a.example, cert: ⟦'', key: k}]}",
            "listen.tls.certificates[0].cert",
            "is empty",
        ),
        (
            "tls: {cert: c, key: k, client_auth: {enabled: true, ca_file: ⟦''}}",
            "listen.tls.client_auth.ca_file",
            "no authorities",
        ),
        (
            "tls: {cert: c, key: k, client_auth: {require_client_cert: ⟦true, ca_file: ca}}",
            "listen.tls.client_auth.require_client_cert",
            "required but not enabled",
        ),
        (
            "tls: {certificates: [{server_name: a.example, cert: c, key: k, "
            "client_auth: {enabled: true, ca_file: ⟦''}}]}",
            "listen.tls.certificates[0].client_auth.ca_file",
            "no authorities",
        ),
    ],
)
def test_certificates_of_a_listener_are_checked(tls, path, words):
    check(f"listen:\n  {tls}\n{UPSTREAM}", path, words)


def test_a_value_that_is_missing_has_the_place_of_the_section_around_it():
    text = "listen:\n  tls: {cert: c, key: k, ⟦client_auth: {enabled: true}}\n" + UPSTREAM
    check(text, "listen.tls.client_auth.ca_file", "no authorities")


def test_there_must_be_a_listener():
    check(f"⟦{UPSTREAM}", "", "there is no listener")


def test_listeners_alone_are_enough():
    text = f"listeners: [{{tls: {{cert: c, key: k}}}}]\n{UPSTREAM}"
    assert len(load_text(text).active_listeners) == 1


def test_listen_beside_listeners_is_unused_and_needs_no_certificate():
    text = f"listen: ⟦{{port: 1}}\nlisteners: [{{tls: {{cert: c, key: k}}}}]\n{UPSTREAM}"
    check(text, "listen", "not used", Severity.WARNING)


def test_two_listeners_cannot_have_one_place():
    tls = "tls: {cert: c, key: k}"
    text = (
        f"listeners:\n  - {{address: '::1', port: 1000, {tls}}}\n"
        f"  - {{address: '0:0:0:0:0:0:0:1', port: ⟦1000, {tls}}}\n{UPSTREAM}"
    )
    check(text, "listeners[1].port", "is the place of listeners[0] already")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::", "0.0.0.0"),
        ("::", "::1"),
        ("0.0.0.0", "::"),
    ],
)
def test_one_of_two_listeners_on_all_addresses_is_in_the_way(first, second):
    tls = "tls: {cert: c, key: k}"
    text = (
        f"listeners:\n  - {{address: '{first}', port: 1000, {tls}}}\n"
        f"  - {{address: '{second}', port: ⟦1000, {tls}}}\n{UPSTREAM}"
    )
    check(text, "listeners[1].port", f"in the way of listeners[0], which has {first}")


def test_all_of_ipv4_is_not_in_the_way_of_ipv6():
    listeners = ", ".join(
        f"{{address: '{address}', port: 1000, tls: {{cert: c, key: k}}}}"
        for address in ("0.0.0.0", "::1")
    )
    assert len(load_text(f"listeners: [{listeners}]\n{UPSTREAM}").active_listeners) == 2


def test_metrics_have_no_place_of_a_listener():
    text = (
        "listen: {address: 127.0.0.1, port: 9901, tls: {cert: c, key: k}}\n"
        f"observability: {{metrics: {{enabled: true, port: ⟦9901}}}}\n{UPSTREAM}"
    )
    check(text, "observability.metrics.port", "is the place of listen already")


def test_a_link_local_address_is_another_place_in_each_zone():
    listeners = ", ".join(
        f"{{address: '{address}', port: 1000, tls: {{cert: c, key: k}}}}"
        for address in ("fe80::1%eth0", "fe80::1%eth1")
    )
    assert len(load_text(f"listeners: [{listeners}]\n{UPSTREAM}").active_listeners) == 2


@pytest.mark.parametrize("second", ["address: '::1', port: 1001", "address: '::2', port: 1000"])
def test_listeners_may_share_an_address_or_a_port(second):
    tls = "tls: {cert: c, key: k}"
    first = "address: '::1', port: 1000"
    assert not problems(f"listeners: [{{{first}, {tls}}}, {{{second}, {tls}}}]\n{UPSTREAM}")


def test_listeners_may_all_take_free_ports():
    tls = "tls: {cert: c, key: k}"
    assert not problems(f"listeners: [{{port: 0, {tls}}}, {{port: 0, {tls}}}]\n{UPSTREAM}")


# --- routes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("route", "path", "words"),
    [
        ("⟦{}", "", "neither host nor path_prefix"),
        ("⟦{method: GET}", "", "neither host nor path_prefix"),
        ("{host: ⟦'a b'}", ".host", "is not a host name"),
        ("{host: ⟦'http://a'}", ".host", "the port"),
        ("{host: ⟦'a/b'}", ".host", "is not a host name"),
        ("{host: ⟦''}", ".host", "there is no host"),
        ("{host: ⟦'a.*'}", ".host", "wildcard"),
        ("{host: ⟦'*.1.2.3.4'}", ".host", "an address has no wildcard"),
        ("{host: ⟦'300.1.1.1'}", ".host", "is not an IPv4 address"),
        ("{host: ⟦'::1'}", ".host", "more than one colon"),
        ("{host: ⟦'bücher.example'}", ".host", "written in ASCII"),
        ("{path_prefix: ⟦api}", ".path_prefix", "starts with a slash"),
        ("{path_prefix: ⟦'/a?b=c'}", ".path_prefix", "queries and fragments"),
        ("{path_prefix: ⟦'/a#b'}", ".path_prefix", "queries and fragments"),
        ("{path_prefix: ⟦'/a b'}", ".path_prefix", "percent-encoded"),
        ("{path_prefix: ⟦/bücher}", ".path_prefix", "percent-encoded"),
        ("{path_prefix: ⟦/a/../b}", ".path_prefix", "dot segment"),
        ("{path_prefix: ⟦/a/%2e%2E/b}", ".path_prefix", "dot segment"),
        ("{path_prefix: ⟦'/a\\b'}", ".path_prefix", "backslash"),
        ("{path_prefix: ⟦/a%5Cb}", ".path_prefix", "backslash"),
        ("{path_prefix: ⟦/a%zz}", ".path_prefix", "percent-escape"),
        ("{host: a, method: ⟦'GET POST'}", ".method", "is not a method"),
        ("{host: a, method: ⟦CONNECT}", ".method", "not supported yet"),
    ],
)
def test_routes_that_no_request_could_match_are_refused(route, path, words):
    check(minimal(f"route: {route}\n{BACKENDS}"), f"upstream.api.route{path}", words)


@pytest.mark.parametrize(
    "route",
    [
        "{host: a.example}", "{host: A.example.}", "{host: 'a.example:443'}", "{host: '*.a'}",
        "{host: 127.0.0.1}", "{host: '[::1]'}", "{host: under_score.example}",
        "{host: xn--bcher-kva.example}", "{path_prefix: /}", "{path_prefix: /a/}",
        "{path_prefix: /b%C3%BCcher}", "{path_prefix: /a%20b}", "{path_prefix: //a}",
        "{path_prefix: /a%2Fb}", "{path_prefix: /%41}", "{path_prefix: /a;b=c}",
        "{host: a, method: get}", "{host: a, method: PROPFIND}",
    ],
)  # fmt: skip
def test_routes_that_requests_can_match_are_taken(route):
    assert not problems(minimal(f"route: {route}\n{BACKENDS}"))


def test_methods_are_uppercase_however_they_are_written():
    text = minimal(
        f"route: {{host: a, method: get}}\n{BACKENDS}",
        "resilience: {protocol: {allowed_methods: [get, Post]}}\n",
    )
    configuration = load_text(text)
    assert configuration.upstream["api"].route.method == "GET"
    assert configuration.resilience.protocol.allowed_methods == ("GET", "POST")


def test_remedies_for_paths_and_hosts_are_what_to_write():
    path = only(minimal(f"route: {{path_prefix: /bü cher}}\n{BACKENDS}"))
    assert path.remedy == 'write "/b%C3%BC%20cher"'
    host = only(minimal(f"route: {{host: bücher.example}}\n{BACKENDS}"))
    assert host.remedy == "write xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{host: a.example}", "{host: A.EXAMPLE.}"),
        ("{host: a.example}", "{host: a.example, path_prefix: /}"),
        ("{host: a.example}", "{host: 'a.example:8443'}"),
        ("{path_prefix: /a}", "{path_prefix: /a/}"),
        ("{path_prefix: /a}", "{path_prefix: /%61}"),
        ("{path_prefix: /a, method: GET}", "{path_prefix: /a, method: get}"),
        ("{host: '*.a.example'}", "{host: '*.A.example'}"),
    ],
)
def test_two_routes_that_match_the_same_requests_are_refused(first, second):
    text, line, column = marked(
        f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n"
        f"  one:\n    route: {first}\n    {BACKENDS}\n"
        f"  two:\n    route: ⟦{second}\n    {BACKENDS}\n"
    )
    problem = only(text)
    assert problem.message == "upstream.one.route, on line 4, matches exactly the same requests"
    assert where(problem) == (line, column, "upstream.two.route")


def test_routes_that_differ_in_one_part_are_two():
    routes = [
        "{host: a}", "{host: '*.a'}", "{path_prefix: /}", "{path_prefix: /a}",
        "{path_prefix: /A}", "{host: a, method: GET}", "{host: a, method: POST}",
    ]  # fmt: skip
    upstreams = "".join(f"  u{i}: {{route: {r}, {BACKENDS}}}\n" for i, r in enumerate(routes))
    assert not problems(f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n{upstreams}")


def with_routes(*routes: str, own: str = "route: {path_prefix: /}, ") -> str:
    lines = "".join(f"  - {route}\n" for route in routes)
    return (
        f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n"
        f"  one: {{{own}{BACKENDS}}}\nroutes:\n{lines}"
    )


def test_top_level_routes_lead_to_upstreams_by_name():
    text = with_routes("{host: a, upstream: one}", "{host: b, method: get, upstream: one}", own="")
    configuration = load_text(text)
    found = [(name, route.host, route.method) for name, route in configuration.all_routes()]
    assert found == [("one", "a", None), ("one", "b", "GET")]


@pytest.mark.parametrize(
    ("route", "path", "words", "remedy"),
    [
        ("{host: a, upstream: ⟦onee}", ".upstream", 'there is no upstream "onee"', "mean one"),
        ("{host: a, upstream: ⟦zzz}", ".upstream", 'there is no upstream "zzz"', "`upstream`"),
        ("⟦{upstream: one}", "", "neither host nor path_prefix", "path_prefix: /"),
        ("{host: ⟦'a b', upstream: one}", ".host", "", ""),
        ("{host: a, method: ⟦CONNECT, upstream: one}", ".method", "not supported yet", ""),
        (
            "⟦{path_prefix: /, upstream: one}",
            "",
            "upstream.one.route, on line 3, matches",
            "differ",
        ),
    ],
)
def test_top_level_routes_obey_the_rules_of_routes(route, path, words, remedy):
    text, line, column = marked(with_routes(route))
    problem = only(text)
    assert words in problem.message
    assert remedy in problem.remedy
    assert where(problem) == (line, column, f"routes[0]{path}")


def test_an_upstream_that_no_route_leads_to_is_refused():
    text = "listen: {tls: {cert: c, key: k}}\nupstream: {one: {" + BACKENDS + "}}\n"
    problem = only(text)
    assert problem.message == "no route leads to this upstream"
    assert problem.path == "upstream.one"


@pytest.mark.parametrize(
    ("check", "protocol", "path", "words"),
    [
        ("{interval: 500, timeout_ms: ⟦600}", "auto", ".timeout_ms", "more than interval"),
        ("{path: ⟦health}", "auto", ".path", "cannot be asked for"),
        ("{path: ⟦'/a b'}", "auto", ".path", "cannot be asked for"),
        ("{expected_status: ['200', ⟦'2xx']}", "auto", ".expected_status[1]", "no status"),
        ("{expected_status: [⟦'299-200']}", "auto", ".expected_status[0]", "no status"),
        ("{type: tcp, path: ⟦/x}", "auto", ".path", "a tcp check makes no request"),
        ("{type: grpc, expected_body: ⟦x}", "auto", ".expected_body", "a grpc check"),
        ("{grpc_service: ⟦a.B}", "auto", ".grpc_service", "asks about no service"),
        ("{type: ⟦grpc}", "http1", ".type", "gRPC needs HTTP/2"),
        ("{type: ⟦tcp}", "http3", ".type", "HTTP/3 is not over TCP"),
    ],
)
def test_health_checks_that_contradict_themselves_are_refused(check, protocol, path, words):
    text, line, column = marked(
        minimal(
            f"protocol: {protocol}\nroute: {{path_prefix: /}}\n"
            f"backends: [{{id: a, address: 'https://a', health_check: {check}}}]"
        )
    )
    problem = only(text)
    assert words in problem.message
    assert where(problem) == (line, column, f"upstream.api.backends[0].health_check{path}")


@pytest.mark.parametrize("address", ["http://b", "HTTP://b:8080"])
def test_http3_to_backends_without_tls_is_refused(address):
    text, line, column = marked(
        minimal(
            "protocol: http3\nroute: {path_prefix: /}\n"
            f"backends: [{{id: a, address: a}}, {{id: b, address: ⟦'{address}'}}]"
        )
    )
    problem = only(text)
    assert problem.message == "HTTP/3 has no version without TLS, and protocol is http3"
    assert where(problem) == (line, column, "upstream.api.backends[1].address")


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("{base_ejection_ms: 2000, max_ejection_ms: ⟦1000}", "max_ejection_ms", "less than base"),
        (
            "{consecutive_errors: 3, consecutive_gateway_errors: ⟦4}",
            "consecutive_gateway_errors",
            "never reached",
        ),
        (
            "{consecutive_errors: null, consecutive_gateway_errors: null, "
            "success_rate_stdev_factor: null, latency_factor: null, enabled: ⟦true}",
            "enabled",
            "every way of detection is null",
        ),
    ],
)
def test_outlier_detection_that_contradicts_itself_is_refused(section, key, words):
    text, line, column = marked(
        minimal(
            f"outlier_detection: {section}\nroute: {{path_prefix: /}}\n"
            "backends: [{id: a, address: 'http://a'}]"
        )
    )
    problem = only(text)
    assert words in problem.message
    assert where(problem) == (line, column, f"upstream.api.outlier_detection.{key}")


@pytest.mark.parametrize(
    ("section", "path", "bounds"),
    [
        ("slow_start: {aggression: ⟦0}", "slow_start.aggression", "0.01 to 100.0"),
        ("slow_start: {aggression: ⟦-1}", "slow_start.aggression", "0.01 to 100.0"),
        ("outlier_detection: {latency_factor: ⟦1}", "outlier_detection.latency_factor", "1.1 to"),
    ],
)
def test_factors_that_make_no_sense_are_refused(section, path, bounds):
    """Zero would divide by itself when the first backend comes back."""
    text = minimal(
        f"{section}\nroute: {{path_prefix: /}}\nbackends: [{{id: a, address: 'http://a'}}]"
    )
    check(text, f"upstream.api.{path}", bounds)


@pytest.mark.parametrize("balancing", ["consistent-hash", "maglev", "sticky-cid"])
@pytest.mark.parametrize("place", ["load_balancing: {type: %s}", ""])
def test_slow_start_that_cannot_act_is_refused(balancing, place):
    text, line, column = marked(
        minimal(
            "slow_start: ⟦{window_ms: 1000}\nroute: {path_prefix: /}\n"
            "backends: [{id: a, address: 'http://a'}]\n" + (place and place % balancing)
        )
    )
    if not place:
        text += f"load_balancing: {{type: {balancing}}}\n"
    problem = only(text)
    assert "places keys by weight" in problem.message
    assert where(problem) == (line, column, "upstream.api.slow_start")


@pytest.mark.parametrize("balancing", ["round-robin", "random", "least-request", "latency-aware"])
def test_slow_start_acts_where_weights_do(balancing):
    text = minimal(
        "slow_start: {window_ms: 1000}\nroute: {path_prefix: /}\n"
        f"backends: [{{id: a, address: 'http://a'}}]\nload_balancing: {{type: {balancing}}}"
    )
    assert not diagnose_text(text).problems


def test_an_embedded_application_is_not_checked():
    text = minimal(
        "route: {path_prefix: /}\nbackends: [{id: a, address: 'app:x', health_check: {path: /}}]"
    )
    (problem,) = diagnose_text(text, apps=["x"]).problems
    assert problem.message == "an embedded application is not checked: it is there"


def test_upstream_names_are_bounded():
    name = "x" * 129
    text = f"listen: {{tls: {{cert: c, key: k}}}}\nupstream: {{{name}: "
    problem = only(f"{text}{{route: {{host: a}}, {BACKENDS}}}}}\n")
    assert problem.message == "the name is longer than 128 characters"


def test_names_that_are_not_plain_are_quoted_in_paths():
    text = "listen: {tls: {cert: c, key: k}}\nupstream:\n"
    problem = only(f'{text}  "a.b": {{route: {{host: 5}}, {BACKENDS}}}\n')
    assert problem.path == 'upstream["a.b"].route.host'


# --- backends ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "words", "remedy"),
    [
        ("http://a/", "only a scheme, a host and a port", "write http://a"),
        ("https://a:1/x?y", "only a scheme, a host and a port", "write https://a:1"),
        ("a/x", "only a scheme, a host and a port", "write a"),
        ("http://user@a", "no user name", "remove"),
        ("ftp://a", "is not a scheme", "http:// or https://"),
        ("h2c://a", "is not a scheme", "http:// or https://"),
        ("http://", "there is no host", ""),
        ("http://:80", "there is no host", ""),
        ("a:0", "is not a number from 1 to 65535", ""),
        ("a:65536", "is not a number from 1 to 65535", ""),
        ("a:http", "is not a number from 1 to 65535", ""),
        ("'a:'", "is not a number from 1 to 65535", ""),
        ("'::1'", "more than one colon", "[::1]:8080"),
        ("'[::1'", "a bracket is not closed", ""),
        ("'[::1]x'", "a bracket is not closed", ""),
        ("'[::g]'", "is not an IPv6 address", ""),
        ("'[fe80::1%eth0]'", "has no zone", ""),
        ("1.2.3", "is not an IPv4 address", ""),
        ("1.2.3.4.5", "is not an IPv4 address", ""),
        ("0x7f.1", "is not an IPv4 address", ""),
        ("-a", "is not a host name", ""),
        ("a..b", "is not a host name", ""),
        ("a b", "is not a host name", ""),
        ("bücher.example", "written in ASCII", "write xn--bcher-kva.example"),
        ("x" * 64, "longer than 63", ""),
        (".".join(["x" * 60] * 5), "longer than 253", ""),
        ("unix:/run/x.sock", "unix sockets are not supported", "TCP port"),
        ("app:web", 'no application is embedded as "web"', "spooky.Proxy"),
        ("'app:'", "is not a name of an application", ""),
        ("app:8080", 'no application is embedded as "8080"', "https://app:8080"),
    ],
)
def test_backend_addresses_that_mean_nothing_are_refused(address, words, remedy):
    text, line, column = marked(with_backend(f"{{id: a, address: ⟦{address}}}"))
    problem = only(text)
    assert words in problem.message
    assert remedy in problem.remedy
    assert where(problem) == (line, column, "upstream.api.backends[0].address")


def test_backends_may_be_embedded_applications_that_were_given():
    text = with_backend("{id: a, address: 'app:web'}")
    assert not problems(text, apps=("web",))
    assert "there are other" in only(text, apps=("other",)).message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://a:80", "HTTP://A."),
        ("https://a", "a"),
        ("a:443", "https://a"),
        ("'[::1]:443'", "'[0:0::1]:443'"),
    ],
)
def test_one_server_is_one_backend_of_an_upstream(first, second):
    text, line, column = marked(
        minimal(
            "route: {path_prefix: /}\nbackends:\n"
            f"  - {{id: a, address: {first}}}\n  - {{id: b, address: ⟦{second}}}"
        )
    )
    problem = only(text)
    assert problem.message.startswith("upstream.api.backends[0] is the same server, http")
    assert where(problem) == (line, column, "upstream.api.backends[1].address")


def test_an_address_without_a_scheme_is_asked_over_tls_and_says_so():
    text = minimal("route: {path_prefix: /}\nbackends: [{id: a, address: ⟦'10.0.0.1:8080'}]")
    check(text, "upstream.api.backends[0].address", "over TLS", Severity.WARNING)


def test_limits_that_never_act_beside_another_are_warned_of():
    limits = "global_inflight_limit: 10, per_upstream_inflight_limit: ⟦100"
    text = f"{minimal()}performance: {{{limits}}}\n"
    check(text, "performance.per_upstream_inflight_limit", "never acts", Severity.WARNING)
    assert not problems(f"{minimal()}performance: {{global_inflight_limit: 10}}\n")


def test_upstreams_may_share_a_server():
    """Unlike the reference: pools are keyed by origin, so that sharing is well defined."""
    upstreams = "".join(f"  u{i}: {{route: {{path_prefix: /{i}}}, {BACKENDS}}}\n" for i in (1, 2))
    assert not problems(f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n{upstreams}")


def test_ids_are_unique_in_an_upstream():
    check(
        minimal(
            "route: {path_prefix: /}\nbackends:\n"
            "  - {id: a, address: 'http://a'}\n  - {id: ⟦a, address: 'http://b'}"
        ),
        "upstream.api.backends[1].id",
        "upstream.api.backends[0] has the same id",
    )


@pytest.mark.parametrize("identifier", ["''", '"' + "x" * 129 + '"'])
def test_ids_are_neither_empty_nor_long(identifier):
    text = with_backend(f"{{id: ⟦{identifier}, address: 'http://a'}}")
    check(text, "upstream.api.backends[0].id", "the text is")


@pytest.mark.parametrize("weight", ["0", "1001", "-1", "1.5"])
def test_weights_are_from_1_to_1000(weight):
    text = with_backend(f"{{id: a, address: 'http://a', weight: ⟦{weight}}}")
    check(text, "upstream.api.backends[0].weight", "expected a whole number from 1 to 1000")


@pytest.mark.parametrize("kind", ["least-connections", "latency-aware", "random", "maglev"])
def test_every_balancing_type_takes_weights(kind):
    """The reference refuses weights with least-connections and latency-aware."""
    text = minimal(
        f"route: {{host: a}}\nload_balancing: {{type: {kind}}}\n"
        "backends: [{id: a, address: 'http://a', weight: 7}]"
    )
    assert load_text(text).upstream["api"].backends[0].weight == 7


# --- balancing --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("balancing", "path", "words", "severity"),
    [
        ("{type: ⟦fastest}", ".type", "expected one of", Severity.ERROR),
        ("{type: maglev, key: ⟦nonsense}", ".key", "is not a key to balance by", Severity.ERROR),
        ("{type: maglev, key: ⟦'path:x'}", ".key", "is not a key to balance by", Severity.ERROR),
        ("{type: maglev, key: ⟦header}", ".key", "needs a name", Severity.ERROR),
        ("{type: maglev, key: ⟦'cookie:'}", ".key", "needs a name", Severity.ERROR),
        ("{type: maglev, key: ⟦'header:a b'}", ".key", "is not a name of a header", Severity.ERROR),
        ("{type: random, key: ⟦path}", ".key", "random uses no key", Severity.WARNING),
        ("{key: ⟦path}", ".key", "round-robin uses no key", Severity.WARNING),
        ("{type: random, balance_factor: ⟦1.5}", ".balance_factor", "no load bound",
         Severity.ERROR),
        ("{type: maglev, balance_factor: ⟦101}", ".balance_factor", "from 1 to 100",
         Severity.ERROR),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["load_balancing", "upstream.api.load_balancing"])
def test_balancing_is_checked_wherever_it_stands(place, balancing, path, words, severity):
    if place == "load_balancing":
        text = minimal(more=f"load_balancing: {balancing}\n")
    else:
        text = minimal(f"route: {{path_prefix: /}}\n{BACKENDS}\nload_balancing: {balancing}")
    check(text, f"{place}{path}", words, severity)


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        ("header:X-User", "header:x-user"),
        ("Header:x", "header:x"),
        ("cookie:Sid", "cookie:Sid"),
        ("query:A", "query:A"),
        ("path", "path"),
        ("PATH", "path"),
        ("authority", "authority"),
        ("method", "method"),
        ("cid", "cid"),
        ("sticky-cid", "cid"),
        ("peer_ip", "client_ip"),
        ("client_ip", "client_ip"),
        ("bearer_token", "bearer_token"),
    ],
)
def test_every_key_of_the_reference_is_taken_and_has_one_spelling(key, canonical):
    more = f"load_balancing: {{type: consistent-hash, key: '{key}'}}\n"
    assert load_text(minimal(more=more)).load_balancing.key == canonical


# --- host policy and TLS towards backends -----------------------------------------------------
@pytest.mark.parametrize(
    ("policy", "path", "words"),
    [
        ("{mode: ⟦rewrite}", ".mode", "rewrite needs a host"),
        ("{host: ⟦a}", ".host", "pass_through sends no host of its own"),
        ("{mode: upstream, host: ⟦a}", ".host", "upstream sends no host of its own"),
        ("{mode: rewrite, host: ⟦'a b'}", ".host", "is not a host name"),
        ("{mode: rewrite, host: ⟦'a:x'}", ".host", "is not a number"),
        ("{mode: ⟦replace}", ".mode", "expected one of"),
    ],
)
def test_host_policies_are_checked(policy, path, words):
    text = minimal(f"route: {{path_prefix: /}}\n{BACKENDS}\nhost_policy: {policy}")
    check(text, f"upstream.api.host_policy{path}", words)


@pytest.mark.parametrize(
    ("tls", "path", "words", "severity"),
    [
        ("{client_certificate: ⟦c}", ".client_certificate", "without client_key", Severity.ERROR),
        ("{client_key: ⟦k}", ".client_key", "without client_certificate", Severity.ERROR),
        ("{ca_file: ⟦''}", ".ca_file", "is empty", Severity.ERROR),
        ("{verify_certificates: ⟦false}", ".verify_certificates", "not verified", Severity.WARNING),
    ],
)
@pytest.mark.parametrize("place", ["upstream_tls", "upstream.api.tls"])
def test_tls_towards_backends_is_checked(place, tls, path, words, severity):
    if place == "upstream_tls":
        text = minimal(more=f"upstream_tls: {tls}\n")
    else:
        backends = "backends: [{id: a, address: 'https://127.0.0.1'}]"
        text = minimal(f"route: {{path_prefix: /}}\n{backends}\ntls: {tls}")
    check(text, f"{place}{path}", words, severity)


def test_a_client_certificate_needs_a_backend_with_tls():
    tls = "tls: {client_certificate: ⟦c, client_key: k}"
    check(
        minimal(f"route: {{path_prefix: /}}\n{BACKENDS}\n{tls}"),
        "upstream.api.tls.client_certificate",
        "no backend of this upstream is reached over TLS",
    )
    secure = f"route: {{path_prefix: /}}\nbackends: [{{id: a, address: a}}]\n{tls}"
    assert not problems(minimal(secure.replace("⟦", "")))


# --- performance and resilience ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("performance", "path", "words"),
    [
        ("backend_connect_timeout_ms: ⟦2001", "backend_connect_timeout_ms",
         "2001 is more than backend_timeout_ms, which is 2000"),
        ("backend_timeout_ms: ⟦60001", "backend_timeout_ms",
         "60001 is more than backend_body_idle_timeout_ms, which is 60000"),
        ("backend_total_request_timeout_ms: 29999, backend_body_total_timeout_ms: ⟦30000",
         "backend_body_total_timeout_ms",
         "30000 is more than backend_total_request_timeout_ms, which is 29999"),
        ("quic_initial_max_stream_data: ⟦1048577", "quic_initial_max_stream_data",
         "1048577 is more than quic_initial_max_data, which is 1048576"),
        ("quic_engine: ⟦quiche", "quic_engine", "expected one of aioquic, auto, native"),
        ("quic_congestion_control: ⟦bbr", "quic_congestion_control", "expected one of cubic, reno"),
    ],
)  # fmt: skip
def test_limits_are_held_against_each_other(performance, path, words):
    check(minimal(more=f"performance: {{{performance}}}\n"), f"performance.{path}", words)


@pytest.mark.parametrize(
    "performance",
    [
        "backend_connect_timeout_ms: 2000",
        "backend_timeout_ms: 60000",
        "backend_total_request_timeout_ms: 30000",
        "quic_initial_max_stream_data: 1048576",
    ],
)
def test_limits_may_be_equal(performance):
    assert not problems(minimal(more=f"performance: {{{performance}}}\n"))


def test_a_limit_that_is_off_is_held_against_nothing():
    more = "performance: {backend_total_request_timeout_ms: null, max_request_body_bytes: null}\n"
    assert not problems(minimal(more=more))


def test_a_body_need_not_fit_a_window():
    """Unlike the reference: windows grow, and bodies stream through them."""
    more = "performance: {max_request_body_bytes: 1073741824}\n"
    assert not problems(minimal(more=more))


@pytest.mark.parametrize(
    ("protocol", "path", "words"),
    [
        ("allowed_methods: [GET, ⟦'P OST']", "allowed_methods[1]", "is not a method"),
        ("allowed_methods: [⟦connect]", "allowed_methods[0]", "is not supported yet"),
        ("denied_path_prefixes: [⟦admin]", "denied_path_prefixes[0]", "starts with a slash"),
        ("denied_path_prefixes: [⟦/%61dmin]", "denied_path_prefixes[0]", "canonical form"),
        ("denied_path_prefixes: [⟦/a/../b]", "denied_path_prefixes[0]", "dot segment"),
        ("max_headers_bytes: ⟦1", "max_headers_bytes", "from 256"),
        ("max_headers_count: ⟦0", "max_headers_count", "from 1"),
    ],
)
def test_protocol_limits_are_checked(protocol, path, words):
    text = minimal(more=f"resilience: {{protocol: {{{protocol}}}}}\n")
    check(text, f"resilience.protocol.{path}", words)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("log: {file: {enabled: true, path: ⟦''}}", "log.file.path"),
        ("access_log: {path: ⟦''}", "access_log.path"),
    ],
)
def test_log_files_have_names(more, path):
    check(minimal(more=f"{more}\n"), path, "the file name is empty")


# --- all at once ------------------------------------------------------------------------------
def test_rules_say_nothing_of_values_that_could_not_be_read():
    """A broken value has a stand-in; blaming that, or what is compared with it, misleads."""
    text = minimal(more="performance: {backend_timeout_ms: x, backend_connect_timeout_ms: 90000}\n")
    assert [problem.path for problem in problems(text)] == ["performance.backend_timeout_ms"]


def test_a_broken_route_does_not_hide_a_conflict_of_others():
    routes = ["{host: a, path_prefix: no}", "{host: a}", "{host: A}"]
    upstreams = "".join(f"  u{i}: {{route: {r}, {BACKENDS}}}\n" for i, r in enumerate(routes))
    found = problems(f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n{upstreams}")
    assert [problem.path for problem in found] == [
        "upstream.u0.route.path_prefix",
        "upstream.u2.route",
    ]


def test_the_native_engine_needs_compiled_kernels(monkeypatch):
    monkeypatch.setattr("spooky._core.COMPILED", False)
    check(
        minimal(more="performance: {quic_engine: ⟦native}\n"),
        "performance.quic_engine",
        '"native" needs the compiled kernels',
    )


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
def test_0_rtt_is_for_the_native_engine():
    allowed = "resilience: {protocol: {allow_0rtt: %strue}}\n"
    load_text(minimal(more=allowed % ""))
    load_text(minimal(more=allowed % "" + "performance: {quic_engine: native}\n"))
    check(
        minimal(more="performance: {quic_engine: aioquic}\n" + allowed % "⟦"),
        "resilience.protocol.allow_0rtt",
        "the QUIC engine aioquic takes no 0-RTT data",
    )


def test_0_rtt_needs_compiled_kernels(monkeypatch):
    monkeypatch.setattr("spooky._core.COMPILED", False)
    check(
        minimal(more="resilience: {protocol: {allow_0rtt: ⟦true}}\n"),
        "resilience.protocol.allow_0rtt",
        "0-RTT needs the compiled kernels",
    )


@pytest.mark.parametrize("methods", ["[GET, ⟦POST]", "[⟦get]", "⟦[]"])
def test_only_safe_methods_are_taken_in_0_rtt(methods):
    text = f"resilience: {{protocol: {{early_data_safe_methods: {methods}}}}}\n"
    (problem,) = problems(marked(minimal(more=text))[0])
    assert problem.path.startswith("resilience.protocol.early_data_safe_methods")


# --- resilience -------------------------------------------------------------------------------
def test_a_watchdog_looks_no_more_rarely_than_stalls_last():
    text = minimal(
        more="resilience:\n  watchdog: {check_interval_ms: ⟦9000, poll_stall_timeout_ms: 5000}\n"
    )
    problem = check(text, "resilience.watchdog.check_interval_ms", "9000 is more than")
    assert problem.remedy == "lower it to 5000 or less"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("restart_command: [/bin/true]", "the supervisor replaces the worker itself"),
        ("overload_inflight_percent: 95", "which admission limits"),
    ],
)
def test_keys_of_the_watchdog_that_make_no_sense_here_are_refused_with_a_reason(key, why):
    text = minimal(more=f"resilience: {{watchdog: {{{key}}}}}\n")
    assert why in only(text).remedy


@pytest.mark.parametrize(
    ("settings", "path", "words", "remedy"),
    [
        (
            "recover_margin: 0.3, actions: {stop_keep_alive: {memory: ⟦0.2}}",
            "actions.stop_keep_alive.memory",
            "once begun, this would never end",
            "raise it, or lower recover_margin",
        ),
        (
            "actions: {prove_addresses: {memory: ⟦0.95}}",
            "actions.prove_addresses.memory",
            "who is refused is not asked for an address",
            "lower it to 0.92 or less",
        ),
        ("actions: {stop_keep_alive: {memory: ⟦1.5}}", "actions.stop_keep_alive.memory", "", ""),
        ("actions: {stop_keep_alive: {memory: ⟦0}}", "actions.stop_keep_alive.memory", "", ""),
        ("memory_max_bytes: ⟦0", "memory_max_bytes", "", ""),
    ],
)
def test_thresholds_of_overload_can_be_reached_and_left(settings, path, words, remedy):
    text = minimal(more=f"resilience: {{overload: {{{settings}}}}}\n")
    problem = check(text, f"resilience.overload.{path}", words)
    if remedy:
        assert problem.remedy == remedy
