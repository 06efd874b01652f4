"""Checking backends, once for the whole machine, whatever the number of workers."""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spooky._core.shared import Segment
from spooky.config.health import HealthCheck
from spooky.config.schema import Configuration
from spooky.generation.identities import PoolIdentity, upstream_tls_maker
from spooky.generation.materials import Materials
from spooky.generation.upstream_http3 import http3_settings
from spooky.observe.metrics import Fact, Kind
from spooky.runtime import Runtime
from spooky.upstream.dial import HTTP_3, DialSettings, Resolve
from spooky.upstream.health import BackendHealth, CheckState
from spooky.upstream.origin import EMBEDDED_SCHEME, Origin
from spooky.upstream.probe import CheckError, CheckInconclusive, probe
from spooky.upstream.quic import Http3Settings

logger = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Each check is up to this share of its delay earlier or later, so that many do not meet."""


@dataclass(frozen=True, slots=True)
class CheckIdentity:
    """What makes two checks the same, which then go on through a change.

    Attributes:
        upstream: Name of the upstream.
        backend: Id of the backend.
        pool: How it is reached.
        check: What is asked.
    """

    upstream: str
    backend: str
    pool: PoolIdentity
    check: HealthCheck


class _Checked:
    """One backend that is checked, again and again."""

    def __init__(
        self,
        identity: CheckIdentity,
        dial_settings: DialSettings,
        runtime: Runtime,
        segment: Segment,
        resolve: Resolve,
        randoms: random.Random,
        http3: Http3Settings,
    ) -> None:
        self._health = BackendHealth(segment, identity.upstream, identity.backend)
        # A program that takes over goes on with what the one before it found.
        self.state = CheckState(identity.check, not self._health.is_failing)
        self.succeeded = 0
        self.failed = 0
        self.inconclusive = 0
        self.detail = ""
        self._identity = identity
        self._dial_settings = dial_settings
        self._runtime = runtime
        self._resolve = resolve
        self._randoms = randoms
        self.http3 = http3
        self._told = self.state.healthy
        self._task = runtime.start_task(self._run())

    def close(self) -> None:
        """Check no more."""
        self._task.cancel()

    def forget(self) -> None:
        """Check no more, and count the backend as one that can serve."""
        self.close()
        self._health.set_failing(False, self._runtime.now())

    async def _run(self) -> None:
        # The first ones are spread over an interval, too.
        await asyncio.sleep(self._randoms.random() * self._identity.check.interval / 1000)
        while True:
            await self._check()
            await asyncio.sleep(self.state.delay * self._randoms.uniform(1 - JITTER, 1 + JITTER))

    async def _check(self) -> None:
        identity = self._identity
        try:
            await probe(
                identity.check, self._dial_settings, self._runtime, self._resolve, self.http3
            )
        except CheckInconclusive:
            self.inconclusive += 1
            return
        except CheckError as error:
            self.failed += 1
            self.detail = str(error)
            self.state.failed(self._runtime.now())
        else:
            self.succeeded += 1
            self.state.succeeded(self._runtime.now())
        self._tell()

    def _tell(self) -> None:
        """Tell the workers and the log if the judgement changed."""
        healthy = self.state.healthy
        if healthy == self._told:
            return
        self._told = healthy
        self._health.set_failing(not healthy, self._runtime.now())
        backend, upstream = self._identity.backend, self._identity.upstream
        if healthy:
            logger.info("backend %s of %s can serve again", backend, upstream)
        else:
            logger.warning("backend %s of %s cannot serve: %s", backend, upstream, self.detail)


class HealthChecks:
    """All checks of a configuration.

    Arguments:
        runtime: Whose loop to use.
        segment: Where workers learn of the results.
        resolve: Gives the addresses of backends.
    """

    def __init__(self, runtime: Runtime, segment: Segment, resolve: Resolve) -> None:
        self._runtime = runtime
        self._segment = segment
        self._resolve = resolve
        self._randoms = random.Random()
        self._checked: dict[CheckIdentity, _Checked] = {}
        self._backends = 0

    def follow(self, configuration: Configuration, materials: Materials) -> None:
        """Check what a configuration says; checks that are the same go on.

        Arguments:
            materials: The files that it names.
        """
        wanted = dict(_wanted(configuration, materials))
        http3 = http3_settings(configuration.performance)
        for identity in self._checked.keys() - wanted.keys():
            self._checked.pop(identity).forget()
        for checked in self._checked.values():
            checked.http3 = http3
        for identity in wanted.keys() - self._checked.keys():
            self._checked[identity] = _Checked(
                identity,
                wanted[identity],
                self._runtime,
                self._segment,
                self._resolve,
                self._randoms,
                http3,
            )
        self._backends = sum(
            backend.state == "enabled"
            for upstream in configuration.upstream.values()
            for backend in upstream.backends
        )

    @property
    def any_can_serve(self) -> bool:
        """Whether any backend can serve, checked or not; true where there is none at all."""
        failing = sum(not checked.state.healthy for checked in self._checked.values())
        return self._backends == 0 or failing < self._backends

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of checks."""
        for identity, checked in self._checked.items():
            labels = (("upstream", identity.upstream), ("backend", identity.backend))
            yield Fact(
                "backend_healthy",
                "Whether the checks of a backend say that it can serve.",
                int(checked.state.healthy),
                labels,
            )
            for outcome in ("succeeded", "failed", "inconclusive"):
                yield Fact(
                    "health_checks_total",
                    "Checks of backends, by how they ended.",
                    getattr(checked, outcome),
                    (*labels, ("outcome", outcome)),
                    Kind.COUNTER,
                )

    def close(self) -> None:
        """Check no more; what was found stays, for whoever takes over."""
        while self._checked:
            self._checked.popitem()[1].close()


def _wanted(
    configuration: Configuration, materials: Materials
) -> Iterator[tuple[CheckIdentity, DialSettings]]:
    made = upstream_tls_maker(materials)
    for name, upstream in configuration.upstream.items():
        tls = made(configuration.tls_of(name))
        for backend in upstream.backends:
            check, origin = backend.health_check, Origin.parse(backend.address)
            if check is None or backend.state != "enabled" or origin.scheme == EMBEDDED_SCHEME:
                continue
            protocol = upstream.protocol
            if check.type == "grpc" and protocol != HTTP_3:
                # gRPC is HTTP/2, with TLS and without; or HTTP/3.
                protocol = "http2"
            identity = CheckIdentity(
                name, backend.id, PoolIdentity.of(origin, protocol, tls), check
            )
            yield identity, DialSettings.of(origin, protocol, tls)
