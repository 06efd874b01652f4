"""The ``spooky`` command: a group that loads a command's file only when it is called."""

import difflib
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Final

import click

from spooky._version import __version__
from spooky.cli.errors import EXIT_OK, report
from spooky.cli.json_option import Invocation

YOUNG_OBJECTS: Final = 20_000
"""So many more objects made than freed before the garbage collector looks: what a configuration is
read into stays, and looking at it at the default of 700 took a quarter of reading 10,000 routes."""

COMMANDS: Final = {
    "serve": "Run the proxy that a configuration file describes.",
    "proxy": "Put HTTP/3 in front of one backend, without a file.",
    "check": "Check a configuration file and say all that is wrong with it.",
    "plan": "Say what another configuration would change, and what may go wrong.",
    "status": "Show what a running Spooky serves.",
    "apply": "Put a configuration file in force, live.",
    "reload": "Put in force what the configuration file says now.",
    "rollback": "Put an earlier generation in force again.",
    "top": "Watch upstreams and backends: rates, latencies, limits, what is shed.",
    "why": "Tell what became of a request, and why.",
    "certs": "List the certificates that are presented, and when they expire.",
    "workers": "List the worker processes.",
    "backend": "List backends; drain one, weigh or disable it, at run time.",
    "upgrade": "Have another program take over what a running one serves.",
    "history": "List the generations that were in force.",
    "diff": "Show how the texts of two generations differ.",
    "init": "Write a commented configuration to start from.",
    "schema": "Print the JSON Schema of the configuration, for editors.",
    "request": "Make one request over HTTP/3.",
    "bench": "Measure this proxy, alone or against others in the same run.",
    "info": "Print versions, and what this machine offers.",
}
"""Commands in the order of the help; each is ``command`` in the module of its name."""


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, so that help and small commands are fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"; did you mean `spooky {near[0]}`?" if near else ""
            raise click.UsageError(f"there is no command {cmd_name!r}{hint}", ctx)
        command: click.Command = importlib.import_module(f"spooky.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__, "-V", "--version", prog_name="spooky", message="%(prog)s %(version)s"
)
def spooky() -> None:
    """An HTTP/3-first edge proxy.

    `spooky proxy --to http://127.0.0.1:8080` is the shortest way to see it work; `spooky init`
    writes a configuration for `spooky serve`.

    Exit codes of every command: 0 if it did what was asked, 1 if it could not, 2 for wrong usage, 4
    if a running Spooky gave no answer in time (it may be done all the same), 130 if interrupted,
    but for `serve`, `proxy` and `top`, which end so. Those with a 3 say in their own help what that
    means.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed to stderr."""
    invocation = Invocation()
    try:
        result = spooky.main(
            list(arguments), prog_name="spooky", standalone_mode=False, obj=invocation
        )
    except Exception as error:
        code = report(error, as_json=invocation.as_json)
        if code is None:
            raise
        return code
    return result if isinstance(result, int) else EXIT_OK


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(YOUNG_OBJECTS)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
