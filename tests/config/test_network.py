"""What a configuration needs of the network: addresses to bind, names that resolve."""

import errno
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from spooky.config import Severity, load_text
from spooky.config import network as network_module
from spooky.config.network import check_addresses, check_backends, check_new_names
from spooky.config.problems import Problem
from spooky.config.report import Report
from spooky.config.schema import Configuration

TLS = "tls: {cert: cert.pem, key: key.pem}"
UPSTREAM = "upstream: {api: {route: {path_prefix: /}, backends: [{id: a, address: 192.0.2.1}]}}\n"


def addresses(text: str) -> list[Problem]:
    report = Report("x")
    check_addresses(load_text(f"{text}\n{UPSTREAM}"), report)
    return report.problems


def listen(address: str, port: int) -> list[Problem]:
    return addresses(f"listen: {{address: '{address}', port: {port}, {TLS}}}")


@contextmanager
def held(kind: socket.SocketKind, address: str = "127.0.0.1") -> Iterator[int]:
    """Hold a port as another program would."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as holder:
        holder.bind((address, 0))
        if kind is socket.SOCK_STREAM:
            holder.listen()
        yield holder.getsockname()[1]


# --- addresses --------------------------------------------------------------------------------
def test_free_addresses_are_fine_and_free_again_afterwards():
    with held(socket.SOCK_STREAM) as port:
        pass
    assert listen("127.0.0.1", port) == []
    assert listen("127.0.0.1", port) == []
    assert listen("::", 0) == []


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_that_another_program_holds_is_an_error_that_names_it(kind, address):
    with held(kind) as port:
        (problem,) = listen(address, port)
    assert problem.severity is Severity.ERROR
    assert problem.path == "listen.port"
    assert f"({'TCP' if kind is socket.SOCK_STREAM else 'UDP'}) is in use by" in problem.message
    assert "process" in problem.message


def test_only_who_is_in_the_way_is_named():
    """All of IPv4 leaves the port free for an address of IPv6."""
    with socket.socket(socket.AF_INET) as other, held(socket.SOCK_STREAM, "::1") as port:
        other.bind(("0.0.0.0", port))
        other.listen()
        place = network_module._Place(
            socket.SOCK_STREAM, network_module.ipaddress.ip_address("::1"), port
        )
        assert len(list(network_module._inodes(place))) == 1


def test_each_listener_and_each_endpoint_is_looked_at():
    held_ports = (held(socket.SOCK_STREAM) for _ in range(3))
    one_held, other_held, third_held = held_ports
    with one_held as one, other_held as other, third_held as third:
        listeners = f"listeners: [{{port: 0, {TLS}}}, {{address: 127.0.0.1, port: {one}, {TLS}}}]\n"
        metrics = f"metrics: {{enabled: true, port: {other}}}"
        endpoints = f"observability: {{{metrics}, control_api: {{enabled: true, port: {third}}}}}"
        assert [problem.path for problem in addresses(listeners + endpoints)] == [
            "listeners[1].port",
            "observability.metrics.port",
            "observability.control_api.port",
        ]
        assert len(addresses(listeners + endpoints.replace("true", "false"))) == 1


def test_what_the_running_proxy_holds_is_not_in_its_way(monkeypatch):
    """A supervisor is a script called spooky, or its module; a worker is a module."""
    running = [
        ["/usr/bin/python3", "/usr/bin/spooky", "serve"],
        ["python3", "-m", "spooky.cli.main"],
    ]
    with held(socket.SOCK_STREAM) as port:
        for command in running:
            monkeypatch.setattr(network_module, "_holders", holder_of(command))
            assert listen("127.0.0.1", port) == []
        monkeypatch.setattr(network_module, "_holders", holder_of(["nginx", "-c", "/etc/spooky"]))
        assert '"nginx" (process 7)' in listen("127.0.0.1", port)[0].message


def holder_of(command: list[str]):
    return lambda place: iter([network_module._Holder(7, command)])


def test_a_port_whose_holder_may_not_be_seen_is_a_warning(monkeypatch):
    monkeypatch.setattr(network_module, "_holders", lambda place: iter(()))
    with held(socket.SOCK_STREAM) as port:
        (problem,) = listen("127.0.0.1", port)
    assert problem.severity is Severity.WARNING
    assert "may not see by whom" in problem.message


def test_an_address_that_is_not_of_this_machine_is_an_error():
    (problem,) = listen("192.0.2.77", 0)
    assert problem.severity is Severity.ERROR
    assert problem.path == "listen.address"
    assert "no address 192.0.2.77" in problem.message


@pytest.mark.parametrize(
    ("number", "severity"), [(errno.EACCES, Severity.WARNING), (errno.ENODEV, Severity.ERROR)]
)
def test_what_the_kernel_says_else_is_passed_on(monkeypatch, number, severity):
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(network_module, "_bind", refuse)
    (problem,) = listen("127.0.0.1", 443)
    assert problem.severity is severity
    assert ("CAP_NET_BIND_SERVICE" in problem.remedy) == (number == errno.EACCES)


def test_a_probe_never_joins_a_group_that_shares_its_port():
    """It would take datagrams, and move the sockets by whose order the kernel steers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            network_module._bind(socket.SOCK_DGRAM, "127.0.0.1", member.getsockname()[1])


# --- names ------------------------------------------------------------------------------------
def backends(
    addresses: list[str], resolve, seconds: float = 60.0, known: Mapping[str, str] = {}
) -> list[Problem]:
    """Check backends; if all names are answered nobody waits for so many seconds."""
    report = Report("x")
    check_backends(with_backends(addresses), report, resolve, seconds, known)
    return report.problems


def with_backends(addresses: list[str]) -> Configuration:
    listed = ", ".join(f"{{id: b{n}, address: '{address}'}}" for n, address in enumerate(addresses))
    text = (
        f"listen: {{{TLS}}}\n"
        f"upstream: {{api: {{route: {{path_prefix: /}}, backends: [{listed}]}}}}\n"
    )
    return load_text(text)


def test_names_are_resolved_and_addresses_are_not():
    asked = []
    given = [
        "http://a.test",
        "b.test:8443",
        "http://a.test:81",
        "192.0.2.1",
        "http://[2001:db8::1]",
    ]
    assert backends(given, asked.append) == []
    assert sorted(asked) == ["a.test", "b.test"]


def test_a_name_that_does_not_resolve_is_a_warning_for_each_backend_that_has_it():
    def resolve(host: str) -> None:
        if host == "gone.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    found = backends(["http://gone.test", "http://a.test", "http://gone.test:81"], resolve)
    assert [problem.path for problem in found] == [
        "upstream.api.backends[0].address",
        "upstream.api.backends[2].address",
    ]
    assert {problem.severity for problem in found} == {Severity.WARNING}
    assert '"gone.test" does not resolve: Name or service not known' in found[0].message


def test_names_of_disabled_backends_are_not_asked_for():
    asked = []
    given = with_backends(["http://a.test", "http://b.test', state: 'disabled"])
    check_backends(given, Report("x"), asked.append, 60.0)
    assert asked == ["a.test"]


def test_only_new_names_are_asked_for_by_a_change(monkeypatch):
    asked = []
    monkeypatch.setattr(network_module, "_ask_the_system", asked.append)
    report = Report("x")
    known = {"a.test": "", "c.test": "no answer", "gone.test": "Name or service not known"}
    given = ["http://a.test:81", "http://b.test", "http://gone.test"]
    check_new_names(with_backends(given), known, report)
    assert asked == ["b.test"]
    # What is known of the others is told all the same.
    (problem,) = report.problems
    assert problem.path == "upstream.api.backends[2].address"
    assert (
        problem.remedy
        == "until it does, addresses that it had are used; without, its requests fail"
    )
    assert '"gone.test" does not resolve: Name or service not known' in problem.message


def test_more_names_than_threads_are_all_resolved():
    asked = []
    assert backends([f"http://h{n}.test" for n in range(100)], asked.append) == []
    assert len(asked) == 100


def test_a_resolver_that_hangs_is_not_waited_for():
    answer = threading.Event()
    try:
        (problem,) = backends(["http://slow.test"], lambda host: answer.wait(), seconds=0.0)
    finally:
        answer.set()
    assert "no answer within 0 s" in problem.message
