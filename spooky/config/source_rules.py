"""Rules of ``performance.source_rules``: what new connections get by where they come from."""

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from spooky.config.networks import Network, NetworkTable, parse_network
from spooky.config.problems import InvalidValueError, quoted
from spooky.config.report import Report

SourceAction: TypeAlias = Literal["allow", "drop", "retry"]

ACTIONS: Final = get_args(SourceAction)


class SourceRule(NamedTuple):
    """What is done with new connections from a network.

    Attributes:
        action: That.
        network: Where they come from.
    """

    action: SourceAction
    network: Network


def parse_source_rule(text: str) -> SourceRule:
    """Return the rule that a text says: an action and a network, such as ``drop 192.0.2.0/24``.

    Raises:
        InvalidValueError: It says none.
    """
    action, _, network = text.strip().partition(" ")
    if action not in ACTIONS:
        raise InvalidValueError(
            f"{quoted(text)} does not begin with what is done",
            f"write {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}, then a network",
        )
    return SourceRule(action, parse_network(network.strip()))  # type: ignore[arg-type]


def check_source_rules(rules: tuple[str, ...], report: Report) -> None:
    """Report rules that say nothing, and those that a rule before them leaves nothing for."""
    path = ("performance", "source_rules")
    networks: dict[int, Network] = {}
    for number, text in enumerate(rules):
        try:
            networks[number] = parse_source_rule(text).network
        except InvalidValueError as error:
            report.error((*path, number), error.message, error.remedy)
    table = NetworkTable(networks.values())
    for place, (number, network) in enumerate(networks.items()):
        if table.first_around(network) != place:
            report.error(
                (*path, number),
                "no source gets this far: a rule before it has them all",
                "put it before that rule, or remove it",
            )
