"""``spooky schema``: the JSON Schema of the configuration."""

import click
import msgspec

from spooky.config.json_schema import configuration_schema


@click.command()
def command() -> None:
    """Print the JSON Schema of the configuration, for editors.

    With the YAML language server, put this on the first line of a configuration, the file being
    what this command printed:

    # yaml-language-server: $schema=spooky.schema.json
    """
    click.echo(msgspec.json.format(msgspec.json.encode(configuration_schema())))
