"""Values of the wrong type or out of range: what was found, what is expected, what would be right.

The mark ⟦ stands before the place that must be named.
"""

import pytest

from spooky.config import load_text
from spooky.config.schema import Configuration
from tests.config.support import GOOD, marked, minimal, only, where

CASES = [
    # text where YAML 1.1 reads something else
    ("log: {file: {path: ⟦no}}", "log.file.path",
     "expected text, found no, which YAML reads as false", 'put it in quotes: "no"'),
    ("log: {file: {path: ⟦On}}", "log.file.path",
     "expected text, found On, which YAML reads as true", 'put it in quotes: "On"'),
    ("log: {file: {path: ⟦true}}", "log.file.path",
     "expected text, found true", 'put it in quotes: "true"'),
    ("log: {file: {path: ⟦12}}", "log.file.path",
     "expected text, found 12, which YAML reads as a number", 'put it in quotes: "12"'),
    ("log: {file: {path: ⟦1.20}}", "log.file.path",
     "expected text, found 1.20, which YAML reads as a number", 'put it in quotes: "1.20"'),
    ("log: {file: {path: ⟦10:30}}", "log.file.path",
     "expected text, found 10:30, which YAML reads as one number in base 60",
     'put it in quotes: "10:30"'),
    ("log: {file: {path: ⟦2020-01-02}}", "log.file.path",
     "expected text, found 2020-01-02, which YAML reads as a date",
     'put it in quotes: "2020-01-02"'),
    ("log: {file: {path: ⟦}}", "log.file.path",
     "expected text, found nothing", "give a value, or remove the key"),
    ("log: {file: {path: ⟦[a]}}", "log.file.path", "expected text, found a list", ""),
    ("log: {file: {path: ⟦{a: b}}}", "log.file.path", "expected text, found a mapping", ""),
    ('log: {file: {path: ⟦"a\\nb"}}', "log.file.path",
     "the text has a control character or a line break", ""),
    ('log: {file: {path: ⟦"a\\0b"}}', "log.file.path",
     "the text has a control character or a line break", ""),
    # whole numbers
    ("performance: {global_inflight_limit: ⟦many}", "performance.global_inflight_limit",
     'expected a whole number from 1 to 1000000000, found the text "many"', ""),
    ('performance: {global_inflight_limit: ⟦"5"}', "performance.global_inflight_limit",
     'expected a whole number from 1 to 1000000000, found the text "5"',
     "write 5, without quotes"),
    ("performance: {global_inflight_limit: ⟦5.0}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found the number 5.0", "write 5"),
    ("performance: {global_inflight_limit: ⟦1e3}", "performance.global_inflight_limit",
     'expected a whole number from 1 to 1000000000, found the text "1e3"', "write 1000"),
    ("performance: {global_inflight_limit: ⟦08}", "performance.global_inflight_limit",
     'expected a whole number from 1 to 1000000000, found the text "08"', "write 8"),
    ("performance: {global_inflight_limit: ⟦010}", "performance.global_inflight_limit",
     "YAML reads 010 as octal, as 8 in decimal", "write 10, or 8 if that is meant"),
    ("performance: {global_inflight_limit: ⟦1:30}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found 1:30, "
     "which YAML reads as one number in base 60", ""),
    ("performance: {global_inflight_limit: ⟦0}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found 0", ""),
    ("performance: {global_inflight_limit: ⟦-1}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found -1", ""),
    ("performance: {global_inflight_limit: ⟦true}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found true", ""),
    ("performance: {global_inflight_limit: ⟦~}", "performance.global_inflight_limit",
     "expected a whole number from 1 to 1000000000, found nothing", ""),
    ("performance: {backend_timeout_ms: ⟦3s}", "performance.backend_timeout_ms",
     'expected a whole number from 1 to 86400000, found the text "3s"',
     "write 3000: the unit is ms"),
    ("performance: {backend_timeout_ms: ⟦1.5 min}", "performance.backend_timeout_ms",
     'expected a whole number from 1 to 86400000, found the text "1.5 min"',
     "write 90000: the unit is ms"),
    ("performance: {max_request_body_bytes: ⟦10MiB}", "performance.max_request_body_bytes",
     'expected a whole number from 1 to 9007199254740992, found the text "10MiB"',
     "write 10485760: the unit is bytes"),
    ("performance: {max_request_body_bytes: ⟦10 apples}", "performance.max_request_body_bytes",
     'expected a whole number from 1 to 9007199254740992, found the text "10 apples"', ""),
    ("performance: {max_request_body_bytes: ⟦!!int x}", "performance.max_request_body_bytes",
     "expected a whole number from 1 to 9007199254740992, found the number x", ""),
    # numbers
    ("load_balancing: {type: maglev, balance_factor: ⟦.inf}", "load_balancing.balance_factor",
     "expected a number from 1 to 100, found the number .inf", ""),
    ("load_balancing: {type: maglev, balance_factor: ⟦.nan}", "load_balancing.balance_factor",
     "expected a number from 1 to 100, found the number .nan", ""),
    ("load_balancing: {type: maglev, balance_factor: ⟦0.9}", "load_balancing.balance_factor",
     "expected a number from 1 to 100, found 0.9", ""),
    ('load_balancing: {type: maglev, balance_factor: ⟦"1.5"}', "load_balancing.balance_factor",
     'expected a number from 1 to 100, found the text "1.5"', "write 1.5, without quotes"),
    # booleans
    ('access_log: {enabled: ⟦"true"}', "access_log.enabled",
     'expected true or false, found the text "true"', "write true, without quotes"),
    ("access_log: {enabled: ⟦n}", "access_log.enabled",
     'expected true or false, found the text "n"', "write false, without quotes"),
    ("access_log: {enabled: ⟦1}", "access_log.enabled",
     "expected true or false, found the number 1", "write true, without quotes"),
    ("access_log: {enabled: ⟦!!bool maybe}", "access_log.enabled",
     'expected true or false, found the text "maybe"', ""),
    # choices
    ("log: {level: ⟦verbose}", "log.level",
     'expected one of debug, error, info, off, trace, warn, found the text "verbose"', ""),
    ("log: {level: ⟦warning}", "log.level",
     'expected one of debug, error, info, off, trace, warn, found the text "warning"',
     "did you mean warn?"),
    ("log: {level: ⟦INFO}", "log.level",
     'expected one of debug, error, info, off, trace, warn, found the text "INFO"', "write info"),
    ('version: ⟦"1"', "version", 'expected 1, found the text "1"', "write 1"),
    ("version: ⟦2", "version", "expected 1, found the number 2", ""),
    # lists and sections
    ("resilience: {protocol: {allowed_methods: ⟦GET}}", "resilience.protocol.allowed_methods",
     'expected a list, found the text "GET"',
     "start each entry on a line of its own with a dash, or write [a, b]"),
    ("resilience: {protocol: {allowed_methods: [GET, ⟦5]}}",
     "resilience.protocol.allowed_methods[1]",
     "expected text, found 5, which YAML reads as a number", 'put it in quotes: "5"'),
    ("performance: ⟦fast", "performance", 'expected a mapping, found the text "fast"', ""),
    ("performance: ⟦[]", "performance", "expected a mapping, found a list", ""),
]  # fmt: skip


@pytest.mark.parametrize(("more", "path", "message", "remedy"), CASES)
def test_a_wrong_value_says_what_was_found_and_what_would_be_right(more, path, message, remedy):
    text, line, column = marked(minimal(more=f"{more}\n"))
    problem = only(text)
    assert problem.message == message
    assert problem.remedy == remedy
    assert where(problem) == (line, column, path)
    assert problem.severity == "error"


@pytest.mark.parametrize(
    ("value", "meant"),
    [("1_000", 1000), ("0x10", 16), ("0b101", 5), ("+7", 7)],
)
def test_numbers_that_can_be_read_in_one_way_only_are_taken(value, meant):
    text = minimal(more=f"performance: {{global_inflight_limit: {value}}}\n")
    assert load_text(text).performance.global_inflight_limit == meant


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "0" + "7" * 5000, "0b_", "0x_"])
def test_numbers_too_long_to_convert_are_refused(digits):
    """CVE-2020-10735: int() takes quadratic time, and refuses beyond 4,300 digits."""
    problem = only(minimal(more=f"performance: {{global_inflight_limit: {digits}}}\n"))
    assert problem.message.startswith("expected a whole number")
    assert len(problem.message) < 200


@pytest.mark.parametrize(
    ("word", "meant"), [("true", True), ("False", False), ("yes", True), ("off", False)]
)
def test_booleans_may_be_any_word_yaml_has_for_them(word, meant):
    assert load_text(minimal(more=f"access_log: {{enabled: {word}}}\n")).access_log.enabled is meant


def test_off_is_a_log_level_though_yaml_reads_it_as_false():
    assert load_text(minimal(more="log: {level: off}\n")).log.level == "off"


@pytest.mark.parametrize("empty", ["performance:", "listeners:", "resilience: {protocol: }"])
def test_a_section_or_list_with_nothing_below_it_has_its_defaults(empty):
    assert load_text(minimal(more=f"{empty}\n")) == load_text(minimal())


def test_required_keys_are_named_at_the_section_that_lacks_them():
    text, line, column = marked(minimal("⟦route: {path_prefix: /}"))
    problem = only(text)
    assert problem.message == "this key is required"
    assert problem.remedy == "add backends: The servers that requests are spread over."
    assert where(problem) == (line - 1, column - 2, "upstream.api.backends")


def test_a_required_section_with_nothing_below_it_is_an_error():
    text, line, column = marked("listen: {tls: {cert: c, key: k}}\nupstream: {api: ⟦}\n")
    problem = only(text)
    assert problem.message == "expected a mapping, found nothing"
    assert where(problem) == (line, column, "upstream.api")


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (minimal("route: {host: a}\nbackends: ⟦[]"), "upstream.api.backends", "the list is empty"),
        ("listen: {tls: {cert: c, key: k}}\nupstream: ⟦{}\n", "upstream", "the mapping is empty"),
        ("⟦listen: {tls: {cert: c, key: k}}\n", "upstream", "this key is required"),
    ],
)
def test_there_is_at_least_one_upstream_and_backend(text, path, message):
    text, line, column = marked(text)
    problem = only(text)
    assert problem.message == message
    assert where(problem) == (line, column, path)


def test_values_in_messages_are_cut_and_cannot_drive_a_terminal():
    problem = only(minimal(more='log: {level: "\\e[31mred' + "x" * 1000 + '"}\n'))
    assert "\\x1b[31mred" in problem.message
    assert "\x1b" not in problem.message
    assert len(problem.message) < 200


def test_the_good_configuration_is_read_as_it_is_written():
    configuration = load_text(GOOD)
    assert isinstance(configuration, Configuration)
    assert configuration.listen is not None
    assert configuration.listen.tls.certificates[0].server_name == "a.example"
    api = configuration.upstream["api"]
    assert [backend.id for backend in api.backends] == ["api-1", "api-2"]
    assert configuration.load_balancing_of("api").balance_factor == 1.25
    assert configuration.load_balancing_of("web").type == "least-request"
    assert configuration.tls_of("api").client_key == "client.key"
    assert configuration.tls_of("web") is configuration.upstream_tls
    assert configuration.log.file.path == "spooky.log"
    assert configuration.resilience.protocol.denied_path_prefixes == ("/admin",)
