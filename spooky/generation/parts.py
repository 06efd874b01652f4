"""The parts of a generation that others share: an upstream and its routes, compiled once for all
generations that say the same of it, so that a change costs what it changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec import structs

from spooky._core.routes import Rule
from spooky.config.control import Control
from spooky.config.observability import Observability
from spooky.config.schema import (
    AccessLog,
    Configuration,
    Log,
    Route,
    Upstream,
)
from spooky.generation.identities import upstream_tls_maker
from spooky.generation.materials import Materials, upstream_paths
from spooky.generation.stages import StageMaker
from spooky.upstream.dial import UpstreamTls
from spooky.upstream.pool import PoolSettings


@dataclass(frozen=True, slots=True)
class Context:
    """All of a configuration that may matter to any upstream, but is none's own.

    Attributes:
        settings: The configuration without upstreams, routes, listeners, logs and control.
        files: The files that TLS towards backends names.
        authorities: The authorities the system trusts; PEM.
        priorities: Of all routes there are.
    """

    settings: Configuration
    files: Mapping[str, bytes]
    authorities: bytes
    priorities: frozenset[int]

    def __hash__(self) -> int:
        # Settings hold mappings; of contexts there are two or three at a time.
        return hash((self.priorities, len(self.authorities)))

    @classmethod
    def of(
        cls, configuration: Configuration, materials: Materials, priorities: frozenset[int]
    ) -> "Context":
        """Return the context of a configuration's upstreams."""
        settings = structs.replace(
            configuration, upstream={}, routes=(), listen=None, listeners=(), log=Log(),
            access_log=AccessLog(), observability=Observability(), control=Control(),
        )  # fmt: skip
        towards = {configuration.upstream_tls}
        towards.update(one.tls for one in configuration.upstream.values() if one.tls is not None)
        paths = {path for tls in towards for path in upstream_paths(tls)}
        files = {path: materials[path] for path in paths if path in materials.files}
        return cls(settings, files, materials.authorities, priorities)


class Common:
    """What all parts of one context have in common.

    Arguments:
        context: The context.
        stages: Makes their stages.
        pool_settings: Of their pools.
        releases: What to do when no generation has it any more.
    """

    def __init__(
        self,
        context: Context,
        stages: StageMaker,
        pool_settings: PoolSettings,
        releases: list[Callable[[float], object]],
    ) -> None:
        self.settings = context.settings
        self.stages = stages
        self.pool_settings = pool_settings
        self._releases = releases
        self._tls = upstream_tls_maker(Materials(context.files, context.authorities))

    def release(self, seconds: float) -> None:
        """Give up everything acquired."""
        while self._releases:
            self._releases.pop()(seconds)

    def upstream_tls(self, upstream: Upstream) -> UpstreamTls:
        """Return how TLS to an upstream's backends is verified and authenticated."""
        return self._tls(upstream.tls or self.settings.upstream_tls)


@dataclass(frozen=True, slots=True)
class PartIdentity:
    """What makes a part outlive a generation.

    Attributes:
        common: What it shares with others.
        name: The upstream's.
        upstream: What is said of it.
        routes: All routes that lead to it.
    """

    common: Common
    name: str
    upstream: Upstream
    routes: tuple[Route, ...]


@dataclass(slots=True, eq=False)
class Part:
    """An upstream and the routes that lead to it, compiled.

    What it does when it comes in force and when it is given up must not refer to the configuration
    that it was compiled from: the part may outlive that by far.

    Attributes:
        identity: What it was made of.
        references: How many generations have it.
        rules: Its routes; they lead to :class:`spooky._core.admission.Upstream` objects.
        activations: What to do once, when the first generation that has it comes in force.
        releases: What to do when no generation has it any more, the last first, with the seconds
            that the streams of removed backends have.
    """

    identity: PartIdentity
    references: int = 0
    rules: list[Rule] = field(default_factory=list)
    activations: list[Callable[[], None]] = field(default_factory=list)
    releases: list[Callable[[float], object]] = field(default_factory=list)

    def release(self, seconds: float) -> None:
        """Give up everything acquired."""
        while self.releases:
            self.releases.pop()(seconds)
