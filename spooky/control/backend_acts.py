"""What may be done to a backend at run time, by the names of the API and of `spooky backend`."""

from collections.abc import Mapping
from typing import Final

from spooky.config.schema import Backend
from spooky.control.change import Act, ChangeError
from spooky.control.overrides import Override, Overrides, State, Weight, merge, without

STATES: Final[Mapping[str, State]] = {
    "drain": "drained",
    "undrain": "enabled",
    "enable": "enabled",
    "disable": "disabled",
}
"""The state that each act leads to."""


class WrongStateError(ChangeError):
    """The backend is in no state for this."""

    code = "wrong_state"


def state_act(name: str, upstream: str, backend: str) -> Act:
    """Return the act that sets a backend's state; one of :data:`STATES`."""
    new = Override(upstream=upstream, backend=backend, state=STATES[name])

    def act(overrides: Overrides, now: Backend) -> Overrides:
        if now.state == "disabled" and name in ("drain", "undrain"):
            raise WrongStateError(f"{backend} of {upstream} is disabled: enable it first")
        return merge(overrides, new)

    return act


def weight_act(upstream: str, backend: str, weight: Weight) -> Act:
    """Return the act that gives a backend another share of the requests."""
    new = Override(upstream=upstream, backend=backend, weight=weight)
    return lambda overrides, _: merge(overrides, new)


def reset_act(upstream: str, backend: str) -> Act:
    """Return the act that takes a backend as the file has it."""
    return lambda overrides, _: without(overrides, upstream, backend)
