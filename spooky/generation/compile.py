"""Compiling a configuration into a generation."""

import logging
from collections.abc import Callable, Generator
from typing import Final

from spooky._core.routes import RouteTable
from spooky._core.terms import BodyLimits, Rates, RequestPolicy, Timeouts
from spooky._core.validate import (
    UNDERSCORES_DROP,
    UNDERSCORES_PASS,
    UNDERSCORES_REJECT,
    Limits,
)
from spooky.config.overload import PRIORITIES, TARGET_MS, RouteQueue
from spooky.config.performance import Performance
from spooky.config.schema import Configuration, Listener, Route
from spooky.generation.certificates import (
    ListenerTls,
    listener_tls_identity,
    load_listener_tls,
)
from spooky.generation.environment import Environment
from spooky.generation.errors import CompileError
from spooky.generation.generation import Generation
from spooky.generation.materials import Materials
from spooky.generation.parts import Common, Context, Part, PartIdentity
from spooky.generation.stages import StageMaker
from spooky.generation.upstream_http3 import http3_settings
from spooky.generation.upstreams import acquire_gate, compile_part
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.runtime.in_turns import at_once, in_turns
from spooky.upstream.pool import PoolSettings

logger = logging.getLogger(__name__)

__all__ = [
    "CompileError", "Environment", "compile_generation", "compile_in_turns", "compile_steps"
]  # fmt: skip

UNDERSCORES: Final = {
    "pass": UNDERSCORES_PASS,
    "drop": UNDERSCORES_DROP,
    "reject": UNDERSCORES_REJECT,
}
"""What the validator calls what the configuration says."""


def compile_generation(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generation:
    """Compile a configuration, without any effect until :attr:`Generation.activation` is taken.

    Arguments:
        materials: The files it names.
        environment: Where it will be in force.
        number: The generation's number.

    Raises:
        CompileError: It cannot be put in force; nothing was acquired.
        MaterialError: Nor if a certificate or key cannot be used.
    """
    return at_once(compile_steps(configuration, materials, environment, number))


async def compile_in_turns(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generation:
    """Compile like :func:`compile_generation`, but between other turns of the loop."""
    steps = compile_steps(configuration, materials, environment, number)
    try:
        return await in_turns(steps, environment.runtime)
    finally:
        steps.close()


def compile_steps(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generator[None, None, Generation]:
    """Compile a configuration in steps that are short each, so that others run in between.

    Like :func:`compile_generation`, whose result is what this generator returns. One that is closed
    before its end gives up what it acquired.
    """
    compiler = _Compiler(configuration, materials, environment)
    try:
        return (yield from compiler.compile(number))
    except BaseException:
        compiler.release(0.0)
        raise


class _Compiler:
    """Acquires from the registries, and remembers what to change and what to give up."""

    def __init__(
        self, configuration: Configuration, materials: Materials, environment: Environment
    ) -> None:
        self._configuration = configuration
        self._performance = configuration.performance
        self._materials = materials
        self._environment = environment
        self._parts: list[Part] = []
        self._releases: list[Callable[[float], object]] = []

    def activation(self) -> Generator[None, None, None]:
        """Return what puts in force what changed of things that were kept, in steps."""
        # At once: whatever is compiled from now on comes later than the beginning.
        self._environment.has_begun = True
        return self._activation_steps()

    def _activation_steps(self) -> Generator[None, None, None]:
        for part in self._parts:
            yield
            while part.activations:
                try:
                    part.activations.pop()()
                except Exception:
                    # It is in force already: what else there is has to follow all the same.
                    logger.exception("a part of a generation is not as it should be")
                yield

    def release(self, seconds: float) -> None:
        """Give up everything acquired, at once."""
        for _ in self.release_steps(seconds):
            pass

    def release_steps(self, seconds: float) -> Generator[None, None, None]:
        """Give up everything acquired, in steps that are short each.

        Arguments:
            seconds: How long the streams of what nobody else refers to have.
        """
        while self._parts or self._releases:
            yield
            try:
                self._release_one(seconds)
            except Exception:
                # What is left is not to be kept for it.
                logger.exception("could not let go of all that a generation refers to")

    def _release_one(self, seconds: float) -> None:
        if not self._parts:
            self._releases.pop()(seconds)
            return
        part = self._parts.pop()
        part.references -= 1
        if part.references == 0:
            del self._environment.parts[part.identity]
            part.release(seconds)

    def compile(self, number: int) -> Generator[None, None, Generation]:
        """Return the generation.

        It refers to this object, which must not refer to it: what is superseded is freed at once.
        """
        configuration = self._configuration
        listener_tls = []
        for listener in configuration.active_listeners:
            yield
            listener_tls.append(self._listener_tls(listener))
        priorities: set[int] = set()
        routes: dict[str, list[Route]] = {name: [] for name in configuration.upstream}
        for name, route in configuration.all_routes():
            yield
            routes[name].append(route)
            priorities.add(PRIORITIES.index(configuration.priority_of(name, route)))
        common = self._common(frozenset(priorities))
        table = RouteTable()
        for name, upstream in configuration.upstream.items():
            yield
            part = yield from self._part(PartIdentity(common, name, upstream, tuple(routes[name])))
            for rule in part.rules:
                yield
                table.add(rule)
        yield
        return Generation(
            number=number,
            configuration=configuration,
            routes=table,
            policy=self._policy(),
            listener_tls=tuple(listener_tls),
            activation=self.activation,
            release_steps=self.release_steps,
        )

    def _common(self, priorities: frozenset[int]) -> Common:
        environment = self._environment
        context = Context.of(self._configuration, self._materials, priorities)

        def make() -> Common:
            releases: list[Callable[[float], object]] = []
            stages = StageMaker(
                context.settings,
                environment.counters,
                environment.pressure,
                lambda *key: acquire_gate(environment, key, releases),
                priorities,
            )
            return Common(context, stages, _pool_settings(self._performance), releases)

        common = environment.commons.acquire(context, make)

        def release(seconds: float) -> None:
            unused = environment.commons.release(context)
            if unused is not None:
                unused.release(seconds)

        self._releases.append(release)
        return common

    def _part(self, identity: PartIdentity) -> Generator[None, None, Part]:
        """Return a part, compiled only if no generation has it."""
        parts = self._environment.parts
        part = parts.get(identity)
        if part is None:
            part = yield from compile_part(identity, self._configuration, self._environment)
            parts[identity] = part
        part.references += 1
        self._parts.append(part)
        return part

    def _listener_tls(self, listener: Listener) -> ListenerTls:
        registry = self._environment.listener_tls
        identity = listener_tls_identity(listener, self._materials)
        tls = registry.acquire(identity, lambda: load_listener_tls(listener, self._materials))
        self._releases.append(lambda _: registry.release(identity))
        return tls

    def _policy(self) -> RequestPolicy:
        protocol = self._configuration.resilience.protocol
        return RequestPolicy(
            limits=Limits(
                protocol.max_headers_count,
                protocol.max_headers_bytes,
                protocol.enforce_authority_host_match,
                [method.encode() for method in protocol.allowed_methods],
                [prefix.encode() for prefix in protocol.denied_path_prefixes],
                UNDERSCORES[protocol.underscores_in_headers],
            ),
            timeouts=_timeouts(self._performance, self._configuration.resilience.route_queue),
            bodies=_body_limits(self._performance),
            early_methods=frozenset(method.encode() for method in protocol.early_data_safe_methods),
            retry_after=self._configuration.resilience.route_queue.shed_retry_after_seconds,
        )


def _pool_settings(performance: Performance) -> PoolSettings:
    return PoolSettings(
        max_idle=performance.h2_pool_max_idle_per_backend,
        idle_timeout=performance.h2_pool_idle_timeout_ms / 1000,
        connect_timeout=performance.backend_connect_timeout_ms / 1000,
        http1=Http1Limits(),
        http2=Http2Limits(),
        http3=http3_settings(performance),
    )


def _timeouts(performance: Performance, queue: RouteQueue) -> Timeouts:
    wait = performance.inflight_acquire_wait_ms
    total = performance.backend_total_request_timeout_ms
    return Timeouts(
        response_head=performance.backend_timeout_ms / 1000,
        first_byte=performance.backend_body_total_timeout_ms / 1000,
        response_idle=performance.backend_body_idle_timeout_ms / 1000,
        request_idle=performance.client_body_idle_timeout_ms / 1000,
        total=total / 1000 if total is not None else None,
        admission=wait / 1000,
        admission_target=min(queue.target_ms or TARGET_MS, wait) / 1000,
        rates=Rates(
            request=performance.client_min_request_bytes_per_sec or 0,
            stream=performance.client_min_stream_bytes_per_sec or 0,
            response=performance.client_min_response_bytes_per_sec or 0,
            grace=performance.client_rate_grace_ms / 1000,
        ),
    )


def _body_limits(performance: Performance) -> BodyLimits:
    return BodyLimits(
        request=performance.max_request_body_bytes,
        response=performance.max_response_body_bytes,
        prebuffer=performance.unknown_length_response_prebuffer_bytes,
        held_requests=performance.request_buffer_global_cap_bytes,
    )
