"""A plan as people read it, wherever it was made: here, or by a proxy that sent it as JSON."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from spooky.cli.errors import printable, shows_colour
from spooky.config.difference import ChangeKind
from spooky.config.inventory import Object, ObjectKind, Value
from spooky.control.effects import Effect, effect_text
from spooky.control.plan import Held, Plan, PlannedChange

DIGEST_SHOWN: Final = 16
"""How much is shown of a fingerprint; enough to tell two apart."""

DIGEST_KEYS: Final = ("fingerprint", "chain", ".sha256")

_SIGNS: Final[Mapping[ChangeKind, tuple[str, str]]] = {
    ChangeKind.ADDED: ("+", "green"),
    ChangeKind.REMOVED: ("-", "red"),
    ChangeKind.CHANGED: ("~", "yellow"),
}

_EFFECT_STYLES: Final[Mapping[Effect, str]] = {
    Effect.LIVE: "green",
    Effect.DRAINS: "yellow",
    Effect.ROLLING: "red",
}


def show_plan(plan: Plan, stream: TextIO) -> None:
    """Print a plan.

    Arguments:
        plan: The plan.
        stream: Where to; coloured only if it is a terminal whose user wants colour.
    """
    colour = shows_colour(stream)
    console = Console(
        file=stream,
        color_system="auto" if colour else None,
        force_terminal=colour,
        highlight=False,
        soft_wrap=True,
    )
    for line in plan_lines(plan):
        # The plan may have come from elsewhere.
        line.plain = printable(line.plain)
        console.print(line)


def plan_lines(plan: Plan) -> Iterator[Text]:
    """Yield a plan line by line."""
    since = "" if plan.generation is None else f" against generation {plan.generation}"
    if plan.back_to is not None:
        since = f" from generation {plan.generation} back to {plan.back_to}"
    if not plan.changes:
        yield Text(f"no changes{since}")
    else:
        yield Text.assemble((_counts(plan.changes), "bold"), since)
        for each, changes in groupby(plan.changes, key=lambda change: change.object):
            yield from _object_lines(each, list(changes))
        yield Text()
        yield from _effect_lines(plan)
    if plan.overrides or plan.settled:
        yield Text()
        yield from _override_lines(plan)
    if plan.hazards:
        yield Text()
        yield Text("Hazards", "bold red")
        for hazard in plan.hazards:
            yield Text.assemble(
                ("  ! ", "bold red"),
                (f"{_name(hazard.object)}: ", "bold"),
                hazard.text,
                (f" ({hazard.code})", "dim"),
            )


def _override_lines(plan: Plan) -> Iterator[Text]:
    """Say what is not as the file says, because it was set at run time."""
    yield Text("Overrides", "bold yellow")
    for one in plan.overrides:
        yield Text(
            f"  {_name(one.object)}: {one.key} stays {_said(one.key, one.value)}; "
            f"the file says {_said(one.key, one.file)}"
        )
    for one in plan.settled:
        yield Text(f"  {_name(one.object)}: {one.key} is no longer overridden")


def _counts(changes: Iterable[PlannedChange]) -> str:
    kinds = [change.kind for change in changes]
    counts = ((kinds.count(kind), kind.value) for kind in ChangeKind)
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _object_lines(each: Object, changes: list[PlannedChange]) -> Iterator[Text]:
    whole = [change for change in changes if not change.key]
    for change in whole:
        sign, style = _SIGNS[change.kind]
        yield Text.assemble((f"{sign} {_name(each)}", f"bold {style}"), "  ", _effect(change))
        for setting in change.settings:
            yield Text(f"      {setting.key}: {_said(setting.key, setting.value)}", "dim")
    if not whole:
        yield Text(f"~ {_name(each)}", "bold yellow")
        for change in changes:
            sign, style = _SIGNS[change.kind]
            old, new = _said(change.key, change.old), _said(change.key, change.new)
            yield Text.assemble(
                (f"    {sign} {change.key}: ", style),
                f"{old} → {new}  ",
                _effect(change),
            )


def _name(each: Object) -> str:
    return each.kind.value if each.kind is ObjectKind.SETTINGS else str(each)


def _effect(change: PlannedChange) -> Text:
    return Text.assemble(
        (change.effect.value, _EFFECT_STYLES[change.effect]), (f": {change.reach.value}", "dim")
    )


def _effect_lines(plan: Plan) -> Iterator[Text]:
    """Say what the effects mean, and which connections go on and which do not."""
    for effect in Effect:
        if any(change.effect is effect for change in plan.changes):
            text = effect_text(effect, f"{plan.drain_seconds or 0:g} s")
            yield Text.assemble((effect.value, _EFFECT_STYLES[effect]), f": {text}")
    for word, held in (("kept", plan.kept), ("drained", plan.drained)):
        yield Text.assemble((f"{word}: ", "bold"), _held(held))


def _held(held: Held) -> str:
    parts = []
    if held.listeners:
        parts.append(f"client connections of {', '.join(held.listeners)}")
    parts += [
        f"pools of {upstream} ({', '.join(pool.backend for pool in pools)})"
        for upstream, pools in groupby(held.pools, key=lambda pool: pool.upstream)
    ]
    return "; ".join(parts) or "nothing"


def _said(key: str, value: Value) -> str:
    """Return a value as YAML writes it, and digests cut."""
    match value:
        case None | "":
            return "none"
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(value)}]"
        case str() if key.endswith(DIGEST_KEYS):
            return value[:DIGEST_SHOWN]
    return str(value)
