"""What a configuration needs of the network: addresses that can be bound, names that resolve.

Apart from the rules because it asks this machine, as it is now. The proxy itself may be running:
what it holds is not in its way.
"""

import errno
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path as FilePath
from queue import Empty, SimpleQueue
from threading import Thread
from types import MappingProxyType
from typing import Final, NamedTuple

from spooky.config.hosts import EMBEDDED_SCHEME, parse_backend_address
from spooky.config.networks import Address, overlap, parse_address, unmapped
from spooky.config.problems import InvalidValueError, Path, quoted
from spooky.config.report import Report
from spooky.config.schema import Configuration

RESOLVE_SECONDS: Final = 5.0
"""How long all names together have; a resolver that is slower makes every connection slow."""

RESOLVE_THREADS: Final = 16
"""How many names are asked for at once."""

Resolve = Callable[[str], object]
"""Resolves a name; raises ``OSError``."""

_LISTENING: Final = "0A"  # TCP_LISTEN of the kernel's net/tcp_states.h, as /proc/net/tcp has it.


def check_network(configuration: Configuration, report: Report) -> None:
    """Report addresses that cannot be bound and backends whose names do not resolve.

    Arguments:
        configuration: As read; values that could not be read have stand-ins.
        report: Where problems go.
    """
    check_addresses(configuration, report)
    check_backends(configuration, report, _ask_the_system, RESOLVE_SECONDS)


def check_new_names(configuration: Configuration, known: Mapping[str, str], report: Report) -> None:
    """Report backends whose names do not resolve, and ask only for those that are new.

    The others are followed already, and a silent resolver is not waited for because of them.

    Arguments:
        configuration: As read; values that could not be read have stand-ins.
        known: Why each name that is followed does not resolve; empty if it does.
        report: Where problems go.
    """
    check_backends(configuration, report, _ask_the_system, RESOLVE_SECONDS, known)


# --- addresses --------------------------------------------------------------------------------
def check_addresses(configuration: Configuration, report: Report) -> None:
    """Report addresses of listeners, metrics and control API that cannot be bound."""
    place = ("listeners",) if configuration.listeners else ("listen",)
    for number, listener in enumerate(configuration.active_listeners):
        path: Path = (*place, number) if configuration.listeners else place
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            if not _check_address(path, kind, listener.address, listener.port, report):
                break
    observability = configuration.observability
    metrics, api = observability.metrics, observability.control_api
    for name, enabled, address, port in (
        ("metrics", metrics.enabled, metrics.address, metrics.port),
        ("control_api", api.enabled, api.address, api.port),
    ):
        if enabled:
            _check_address(("observability", name), socket.SOCK_STREAM, address, port, report)


def _check_address(
    path: Path, kind: socket.SocketKind, address: str, port: int, report: Report
) -> bool:
    """Report why an address cannot be bound; return whether it can."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return False
    try:
        _bind(kind, str(wanted), port)
    except OSError as error:
        where = f"{address} port {port} ({'TCP' if kind is socket.SOCK_STREAM else 'UDP'})"
        _report_bind(path, where, _Place(kind, wanted, port), error, report)
        return False
    return True


def _bind(kind: socket.SocketKind, address: str, port: int) -> None:
    """Bind a socket and close it again.

    Never shared (SO_REUSEPORT): it would take datagrams from the running proxy's group, and change
    the order of sockets by which the kernel steers them.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind((address, port))


class _Place(NamedTuple):
    kind: socket.SocketKind
    address: Address
    port: int


def _report_bind(path: Path, where: str, place: _Place, error: OSError, report: Report) -> None:
    address, port = (*path, "address"), (*path, "port")
    match error.errno:
        case errno.EADDRINUSE:
            holders = list(_holders(place))
            if any(holder.is_spooky for holder in holders):
                return
            if holders:
                report.error(
                    port, f"{where} is in use by {holders[0]}", "stop it, or choose another port"
                )
            else:
                report.warning(
                    port,
                    f"{where} is in use, and whoever runs this check may not see by whom",
                    "nothing, if it is this proxy that runs; else choose another port",
                )
        case errno.EACCES:
            report.warning(
                port, f"whoever runs this check may not bind {where}",
                "the service needs CAP_NET_BIND_SERVICE, or to be root",
            )  # fmt: skip
        case errno.EADDRNOTAVAIL:
            report.error(
                address, f"this machine has no address {place.address}",
                "write one of its addresses, 0.0.0.0 for all of IPv4, or :: for all",
            )  # fmt: skip
        case _:
            report.error(address, f"cannot bind {where}: {error.strerror}")


class _Holder(NamedTuple):
    """A process that holds a socket."""

    pid: int
    command: list[str]

    @property
    def is_spooky(self) -> bool:
        """Whether it is a supervisor or a worker of ours: the script, or ``-m`` and a module."""
        script = any(os.path.basename(word) == "spooky" for word in self.command[:2])
        return script or any(
            option == "-m" and module.startswith("spooky.")
            for option, module in pairwise(self.command)
        )

    def __str__(self) -> str:
        return f"{quoted(os.path.basename(self.command[0]))} (process {self.pid})"


def _holders(place: _Place) -> Iterator[_Holder]:
    """Yield the processes that hold sockets in the way of an address, as far as we may see them."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(place)}
    for process in FilePath("/proc").glob("[0-9]*"):
        try:
            held = any(_link(descriptor) in sockets for descriptor in (process / "fd").iterdir())
            command = (process / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            # It is gone, or somebody else's.
            continue
        if held and command:
            yield _Holder(int(process.name), command.split("\0"))


def _link(descriptor: FilePath) -> str:
    """Return what a descriptor is; empty if it was closed meanwhile."""
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""


def _inodes(place: _Place) -> Iterator[str]:
    """Yield the inodes of bound sockets that overlap with an address: proc_net(5)."""
    name = "tcp" if place.kind is socket.SOCK_STREAM else "udp"
    for file in (f"/proc/net/{name}", f"/proc/net/{name}6"):
        try:
            lines = FilePath(file).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, port = fields[1].split(":")
            listens = name == "udp" or fields[3] == _LISTENING
            if not listens or int(port, 16) != place.port:
                continue
            if overlap(_parse(address), unmapped(place.address)):
                yield fields[9]


def _parse(text: str) -> Address:
    """Return an address of /proc/net: words of 32 bits in the machine's order."""
    data = bytes.fromhex(text)
    if sys.byteorder == "little":
        data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    return parse_address(str(ipaddress.ip_address(data)))


# --- names ------------------------------------------------------------------------------------
def check_backends(
    configuration: Configuration,
    report: Report,
    resolve: Resolve,
    seconds: float,
    known: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Warn of backends whose names do not resolve; the others are served all the same.

    Arguments:
        configuration: As read.
        report: Where problems go.
        resolve: Called from other threads.
        seconds: How long all names together have.
        known: Names that are not asked for, each with why it does not resolve; empty if it does.
    """
    places = _names_of(configuration)
    new = [host for host in places if host not in known]
    found = {**known, **_resolve_all(new, resolve, seconds)}
    for host, at in places.items():
        failure = found.get(host)
        hint = "its requests fail"
        if host in known:
            hint = f"addresses that it had are used; without, {hint}"
        for path in at if failure else ():
            report.warning(
                path, f"{quoted(host)} does not resolve: {failure}", f"until it does, {hint}"
            )


def _names_of(configuration: Configuration) -> dict[str, list[Path]]:
    """Return where each name of backends is; nobody asks for those of disabled ones."""
    places: dict[str, list[Path]] = {}
    for name, upstream in configuration.upstream.items():
        for number, backend in enumerate(upstream.backends):
            host = _name_in(backend.address) if backend.is_listed else None
            if host is not None:
                path = ("upstream", name, "backends", number, "address")
                places.setdefault(host, []).append(path)
    return places


def _name_in(address: str) -> str | None:
    """Return the name that a backend's address needs resolved; ``None`` if it needs nothing."""
    try:
        parsed = parse_backend_address(address)
    except InvalidValueError:
        return None
    if parsed.scheme == EMBEDDED_SCHEME:
        return None
    try:
        ipaddress.ip_address(parsed.host)
    except ValueError:
        return parsed.host
    return None


def _resolve_all(hosts: list[str], resolve: Resolve, seconds: float) -> dict[str, str]:
    """Return why names do not resolve; those that do are left out."""
    pending: SimpleQueue[str] = SimpleQueue()
    for host in hosts:
        pending.put(host)
    answers: dict[str, str] = {}

    def work() -> None:
        while True:
            try:
                host = pending.get_nowait()
            except Empty:
                return
            try:
                resolve(host)
                answers[host] = ""
            except OSError as error:
                answers[host] = error.strerror or str(error)

    # Daemons: nothing stops a resolver that hangs, and nobody has to wait for it.
    threads = [Thread(target=work, daemon=True) for _ in hosts[:RESOLVE_THREADS]]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    found = {host: answers.get(host, f"no answer within {seconds:.0f} s") for host in hosts}
    return {host: failure for host, failure in found.items() if failure}


def _ask_the_system(host: str) -> object:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
