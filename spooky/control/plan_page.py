"""The page about effects and hazards, from their tables: ``python -m spooky.control.plan_page``."""

from spooky.control.effects import OUTCOMES, Effect, effect_text
from spooky.control.hazards import HAZARDS

HEAD = """# Effects and hazards of a change

What a [plan](plan.md) says of each change. This page is made from the tables in
`spooky/control/hazards.py` and `spooky/control/effects.py` by `make docs`.
"""

BOUND = "`performance.shutdown_drain_timeout_ms` of the new configuration"
"""How long what drains has; a plan says the seconds."""

HAZARDS_HEAD = """
## Hazards

A hazard keeps nothing from being put in force; it is what to read twice.

| Code | When | What is said |
| --- | --- | --- |
"""

EFFECTS_HEAD = """
## Effects

An object that is added is `live`, and so is a route or a certificate that is removed; a listener,
an upstream or a backend that is removed `drains`. For a setting that is changed:

| Setting | Effect | Noticed by |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page, Markdown."""
    parts = [HEAD, "\n"]
    parts += [f"- `{effect.value}`: {effect_text(effect, BOUND)}.\n" for effect in Effect]
    parts.append(HAZARDS_HEAD)
    for kind in HAZARDS.values():
        parts.append(f"| `{kind.code}` | {kind.meaning} | {kind.sentence} |\n")
    parts.append(EFFECTS_HEAD)
    for path, outcome in OUTCOMES.items():
        parts.append(f"| `{path}` | `{outcome.effect.value}` | {outcome.reach.value} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
