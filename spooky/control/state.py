"""Whether clients are served, as health checks and the service manager are told."""

from enum import StrEnum


class State(StrEnum):
    """Where a service is between its start and its end."""

    STARTING = "starting"
    SERVING = "serving"
    NO_WORKER = "no_worker"
    """Every worker is dead or hangs; their successors are on the way."""
    NO_BACKEND = "no_backend"
    """No backend is enabled and can serve: requests get 503."""
    DRAINING = "draining"

    @property
    def ready(self) -> bool:
        """Whether new clients should come."""
        return self is State.SERVING
