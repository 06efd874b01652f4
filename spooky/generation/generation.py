"""A generation: everything a request needs to know, compiled and immutable."""

from collections.abc import Callable, Generator

from spooky._core.routes import RouteTable
from spooky._core.terms import InForce, RequestPolicy
from spooky.config.schema import Configuration
from spooky.generation.certificates import ListenerTls


class Generation(InForce):
    """What is in force.

    An exchange keeps its policy and its upstream, not the generation: that is freed when it is
    superseded, however long exchanges last.

    Attributes:
        number: Counts up with every change.
        configuration: What it was compiled from.
        routes: Leads to the upstreams of the admission kernel.
        policy: For all requests alike.
        listener_tls: What each active listener presents and demands, in their order.
        activation: Returns what puts in force what changed of things that were kept, in steps that
            are short each; call it once, when the generation is in force, and take all of them
            before those of its release. Until then the generation has no effect.
        release_steps: Gives up what the generation refers to, in force or not, in steps that are
            short each; call it once, with the seconds that the streams of removed backends have
            until they are cut.
    """

    __slots__ = ("activation", "configuration", "listener_tls", "release_steps")

    def __init__(
        self,
        number: int,
        configuration: Configuration,
        routes: RouteTable,
        policy: RequestPolicy,
        listener_tls: tuple[ListenerTls, ...],
        activation: Callable[[], Generator[None, None, None]],
        release_steps: Callable[[float], Generator[None, None, None]],
    ) -> None:
        super().__init__(number, policy, routes)
        self.configuration = configuration
        self.listener_tls = listener_tls
        self.activation = activation
        self.release_steps = release_steps

    def release(self, seconds: float) -> None:
        """Take all steps of :attr:`release_steps` at once, which of a large one takes long."""
        for _ in self.release_steps(seconds):
            pass
