"""What the metrics tell that no worker counts: of processes, certificates and the generation."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Final

from spooky._core.shared import LIMITS_MAX, Segment
from spooky._version import __version__
from spooky.config.files import describe_files
from spooky.config.schema import Configuration, Listener
from spooky.control.candidate import Candidate
from spooky.control.resources import open_files
from spooky.generation.certificates import ListenerTls
from spooky.observe.metrics import Fact, Kind
from spooky.overload.held import HELD, held_at_most
from spooky.overload.places import shared_total

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# Fields of /proc/PID/stat after the name, which may hold spaces: proc_pid_stat(5).
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_THREADS: Final = 17
_RESIDENT_PAGES: Final = 21


def build_facts(segment: Segment, started: float) -> Iterator[Fact]:
    """Yield what is known of the whole.

    Arguments:
        started: When it started; seconds since 1970.
    """
    yield Fact("build_info", "The version that runs.", 1, (("version", __version__),))
    yield Fact("start_time_seconds", "When it started, since 1970.", started)
    yield Fact("generation", "Number of the generation in force.", segment.generation)
    taken = segment.entries
    for state, count in (("used", taken), ("free", LIMITS_MAX - taken)):
        yield Fact(
            "shared_entries",
            "Entries of the table that workers share: for limits, breakers, health, retries.",
            count,
            (("state", state),),
        )


def certificate_facts(listener: Listener, tls: ListenerTls) -> Iterator[Fact]:
    """Yield when each certificate of a listener expires."""
    where = f"{listener.address}:{listener.port}"
    for chain in {each.fingerprint: each for each in tls.selector.chains}.values():
        names = sorted(chain.names)
        yield Fact(
            "certificate_expiry_seconds",
            "When a listener's certificate expires, since 1970.",
            chain.certificate.not_valid_after_utc.timestamp(),
            (
                ("listener", where),
                ("server_name", names[0] if names else ""),
                ("fingerprint", chain.fingerprint),
            ),
        )


def client_certificate_facts(candidate: Candidate) -> Iterator[Fact]:
    """Yield when each certificate that backends are shown expires."""
    configuration = candidate.configuration
    towards = (configuration.tls_of(name) for name in configuration.upstream)
    for path in dict.fromkeys(tls.client_certificate for tls in towards):
        if path is None:
            continue
        facts = describe_files({path: candidate.materials[path]})[path].certificate
        if facts is not None:
            yield Fact(
                "client_certificate_expiry_seconds",
                "When a certificate that backends are shown expires, since 1970.",
                facts.not_after.timestamp(),
                (("file", path), ("fingerprint", facts.fingerprint)),
            )


def history_fact(history: Sized) -> Fact:
    """Return how many generations are kept."""
    return Fact("runtime_history_depth", "Generations that are kept.", len(history))


def probation_facts(is_open: bool, rollbacks: int) -> Iterator[Fact]:
    """Yield what is known of generations on probation.

    Arguments:
        is_open: Whether one is.
        rollbacks: How often one was taken back.
    """
    yield Fact("probation", "Whether the generation in force is on probation.", float(is_open))
    yield Fact(
        "probation_rollbacks_total", "Generations that were taken back on probation.", rollbacks,
        kind=Kind.COUNTER,
    )  # fmt: skip


def process_facts(processes: Mapping[str, int]) -> Iterator[Fact]:
    """Yield what each process takes; one that is gone is left out.

    Arguments:
        processes: Process numbers by what they are called.
    """
    for name, pid in processes.items():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
            labels = (("process", name),)
            yield Fact(
                "process_cpu_seconds_total", "Processor time that a process took.",
                ticks / _TICKS_PER_SECOND, labels, Kind.COUNTER,
            )  # fmt: skip
            yield Fact(
                "process_resident_memory_bytes", "Memory that a process holds.",
                int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES, labels,
            )  # fmt: skip
            yield Fact("process_threads", "Threads of a process.", int(fields[_THREADS]), labels)
            yield Fact(
                "process_max_fds", "File descriptors that a process may have open.",
                _open_files_max(pid), labels,
            )  # fmt: skip
            # Last: a hardened /proc may refuse this alone.
            yield Fact(
                "process_open_fds", "File descriptors that a process has open.",
                open_files(pid), labels,
            )  # fmt: skip


def _open_files_max(pid: int) -> int:
    """Return how many files a process may have open; anybody may read it, whosever process it is.

    Raises:
        OSError: There is no such process.
        IndexError, ValueError: The kernel tells it in another form.
    """
    limits = Path(f"/proc/{pid}/limits").read_text()
    return int(limits.partition("Max open files")[2].split()[0])


def configuration_facts(segment: Segment, running: Candidate) -> Iterator[Fact]:
    """Yield what is known of what is in force: certificates, and what is in flight."""
    listeners = running.configuration.active_listeners
    for listener, tls in zip(listeners, running.tls, strict=True):
        yield from certificate_facts(listener, tls)
    yield from client_certificate_facts(running)
    yield from in_flight_facts(segment, running.configuration)


def in_flight_facts(segment: Segment, configuration: Configuration) -> Iterator[Fact]:
    """Yield what is in flight under each limit, and the limits."""
    performance = configuration.performance
    scopes: list[tuple[tuple[str, ...], int]] = [(("global",), performance.global_inflight_limit)]
    for name, upstream in configuration.upstream.items():
        scopes.append((("upstream", name), performance.per_upstream_inflight_limit))
        scopes += [
            (("backend", name, backend.id), performance.per_backend_inflight_limit)
            for backend in upstream.backends
        ]
    for identity, limit in scopes:
        scope, upstream_name, backend_id = (*identity, "", "")[:3]
        labels = (("scope", scope), ("upstream", upstream_name), ("backend", backend_id))
        yield Fact(
            "requests_in_flight", "Requests in flight, by what limits them.",
            shared_total(segment, "requests", *identity), labels,
        )  # fmt: skip
        yield Fact("requests_in_flight_limit", "How many requests may be in flight.", limit, labels)
    yield Fact(
        "request_buffered_bytes", "Request body bytes that are held, by all workers.",
        shared_total(segment, *HELD),
    )  # fmt: skip
    yield Fact(
        "request_buffered_high_watermark_bytes",
        "The most request body bytes that were held at a time, by all workers.",
        held_at_most(segment),
    )
    yield Fact(
        "request_buffered_bytes_limit", "How many request body bytes may be held.",
        performance.request_buffer_global_cap_bytes,
    )  # fmt: skip


def worker_facts(segment: Segment, workers: Mapping[int, int], restarts: int) -> Iterator[Fact]:
    """Yield what is known of the workers from outside.

    Arguments:
        workers: Process numbers by slot.
        restarts: How often one was replaced.
    """
    yield Fact("workers", "Worker processes that run.", len(workers))
    yield Fact(
        "worker_restarts_total", "Workers that died and were replaced.", restarts,
        kind=Kind.COUNTER,
    )  # fmt: skip
    now = time.monotonic()
    for slot in workers:
        if beat := segment.last_beat(slot):
            yield Fact(
                "worker_heartbeat_age_seconds",
                "Time since a worker's loop last said that it turns.",
                max(0.0, now - beat / 1000),
                (("worker", str(slot)),),
            )
