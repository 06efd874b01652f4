"""What may go wrong when a plan is put in force: decided from the two configurations alone."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from spooky.config.inventory import Object


class HazardKind(Struct, frozen=True):
    """One kind of hazard.

    Attributes:
        code: Its stable name.
        meaning: When it is reported, for the documentation.
        sentence: What is said of an object, with places for particulars.
    """

    code: str
    meaning: str
    sentence: str


class Hazard(Struct, frozen=True):
    """Something about a plan that deserves a second look.

    Attributes:
        code: The kind, as in :data:`HAZARDS`.
        object: What it is about.
        text: What may go wrong, one sentence.
    """

    code: str
    object: Object
    text: str


_KINDS: Final = (
    HazardKind(
        "catch_all_removed",
        "Some route takes every request now, and none would any more.",
        "no route takes every request any more: what no other route matches gets 404",
    ),
    HazardKind(
        "route_unmatched",
        "A route is removed, and requests that it matches would match no other.",
        "requests that this route matches now get 404",
    ),
    HazardKind(
        "route_taken_over",
        "A route is removed, and requests that it matches would go to another upstream.",
        "requests that go to {old} by this route now go to {new}",
    ),
    HazardKind(
        "last_backend_removed",
        "No backend of an upstream that serves now would serve any more: the upstream is removed, "
        "or all its backends are replaced, drained or disabled at once.",
        "no backend of {upstream} that serves now is kept",
    ),
    HazardKind(
        "capacity_halved",
        "An upstream loses half of its capacity or more. Capacity is the sum of the weights of its "
        "enabled backends, relative to those that keep the most of theirs: other weights with the "
        "same proportions are the same capacity.",
        "{upstream} keeps {percent} % of its capacity",
    ),
    HazardKind(
        "total_capacity_halved",
        "All upstreams together lose half of their capacity or more, each counted by the number of "
        "its backends.",
        "all upstreams together keep {percent} % of their capacity",
    ),
    HazardKind(
        "health_check_removed",
        "A backend would not be checked any more.",
        "{backend} is not checked any more: it gets requests even when it is broken",
    ),
    HazardKind(
        "outlier_detection_off",
        "The backends of an upstream would not be ejected any more for how their requests end.",
        "a backend of {upstream} that fails or is slow goes on getting requests, unless its checks "
        "fail",
    ),
    HazardKind(
        "circuit_breaker_off",
        "Backends that fail time after time would not be left alone any more.",
        "requests go on waiting for backends that fail",
    ),
    HazardKind(
        "adaptive_admission_off",
        "Requests in flight to an upstream would not be limited by how long they take any more.",
        "an upstream that gets slower gets ever more requests at once",
    ),
    HazardKind(
        "brownout_off",
        "Requests would not be shed by the priority of their routes any more.",
        "under overload core routes are shed as often as the others",
    ),
    HazardKind(
        "limit_lifted",
        "A limit is removed, switched off, made to exempt more, or raised at least tenfold; or a "
        "least rate is lowered so much.",
        "{key} goes from {old} to {new}",
    ),
    HazardKind(
        "client_auth_weakened",
        "A listener, or a name of it, would ask clients for certificates no more, or serve those "
        "who have none.",
        "clients without a certificate can connect",
    ),
    HazardKind(
        "backend_verification_off",
        "The certificates of an upstream's backends, or the names in them, would not be verified.",
        "{key} is off: others can pose as the backends of {upstream}",
    ),
    HazardKind(
        "early_data_allowed",
        "Requests would be taken in 0-RTT data.",
        "whoever records the first packets of a client can send its requests again",
    ),
    HazardKind(
        "proxies_trusted",
        "More networks would be believed about where clients are.",
        "whoever can connect to {listener} from {cidrs} can pose as any client",
    ),
    HazardKind(
        "listener_removed",
        "An address would not be listened on any more.",
        "clients that connect to {listener} are refused",
    ),
    HazardKind(
        "certificate_removed",
        "A server name would have no certificate of its own any more.",
        "clients that ask for {name} are shown another certificate, or refused",
    ),
    HazardKind(
        "certificate_changed",
        "Clients of a server name would be shown another certificate.",
        "clients that ask for {name} are shown another certificate",
    ),
    HazardKind(
        "certificate_names_lost",
        "A certificate covers fewer names than the one that it replaces.",
        "the certificate does not cover {names} any more",
    ),
    HazardKind(
        "certificate_nameless",
        "A certificate that would be in force names no host.",
        "over connections with the certificate clients may ask for every host",
    ),
    HazardKind(
        "certificate_expired",
        "A certificate that would be in force has expired.",
        "the certificate expired on {date}",
    ),
    HazardKind(
        "certificate_expires_soon",
        "A certificate that would be in force expires within two weeks.",
        "the certificate expires on {date}",
    ),
)

HAZARDS: Final[Mapping[str, HazardKind]] = {kind.code: kind for kind in _KINDS}
"""Every kind of hazard by its code, in the order in which they are reported."""


def hazard(code: str, each: Object, **particulars: object) -> Hazard:
    """Return a hazard of a kind, with its sentence."""
    return Hazard(code, each, HAZARDS[code].sentence.format(**particulars))
