"""``spooky schema``."""

import json

from spooky.cli.main import run


def test_the_schema_is_json_for_editors(capsys):
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$ref"] == "#/$defs/Configuration"
    assert schema["$defs"]["Performance"]["properties"]["backend_timeout_ms"]["default"] == 2000
