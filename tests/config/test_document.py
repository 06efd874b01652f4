"""From YAML text to nodes: places, limits, and what YAML allows but a configuration does not."""

import gc
import re

import pytest
import yaml

from spooky.config import ConfigurationError, diagnose, load_text
from spooky.config import document as document_module
from spooky.config.document import Entries, Scalar, read_yaml
from spooky.config.report import Report
from tests.config.support import GOOD, marked, minimal, only, problems, where


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\nlisten: {port: 1⟦: 2}\n", "not valid YAML"),
        ("version: 1\nlisten:\n⟦\tport: 1\n", "not valid YAML"),
        ("version: 1\nlog: ⟦*nowhere\n", "no anchor before it"),
        ("upstream: &a\n  b: ⟦*a\n", "inside what it stands for"),
        ("version: 1\n⟦---\nversion: 1\n", "a second document"),
        ("a: '\u00e4\U0001f600' ⟦\x01\n", "not allowed in YAML"),
        ("listen: [1,\n⟦", "not valid YAML"),
    ],
)
def test_text_that_is_no_document_is_one_problem_with_its_place(text, words):
    text, line, column = marked(text)
    problem = only(text)
    assert words in problem.message
    assert where(problem) == (line, column, "")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_said_to_be_empty(text):
    problem = only(text)
    assert problem.message == "the file is empty"
    assert where(problem) == (1, 1, "")


@pytest.mark.parametrize(
    ("text", "found"), [("[1, 2]", "a list"), ("just words", 'the text "just words"')]
)
def test_a_document_that_is_no_mapping_says_what_it_is(text, found):
    problem = only(text)
    assert problem.message == f"expected a mapping, found {found}"
    assert where(problem) == (1, 1, "")


def test_a_star_without_quotes_gets_a_remedy():
    assert "in quotes" in only("host: *.example.org\n").remedy


def test_a_quote_that_is_not_closed_is_named_by_the_line_of_its_beginning():
    assert "which begins on line 2" in only('version: 1\nid: "one\nlog: {}\n').message


def test_tabs_get_a_remedy():
    assert "spaces" in only("listen:\n\tport: 1\n").remedy


def test_a_file_that_is_not_utf8_names_the_place(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes("version: 1\nlog: ä".encode() + b"\xff\n")
    (problem,) = diagnose(file).problems
    assert (problem.line, problem.column) == (2, 7)
    assert "UTF-8" in problem.message


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert diagnose(file).configuration is not None


def test_a_file_that_is_missing_is_one_problem(tmp_path):
    (problem,) = diagnose(tmp_path / "none.yaml").problems
    assert "No such file" in problem.message
    assert problem.line is None


def test_a_file_above_the_size_limit_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(document_module, "MAX_DOCUMENT_BYTES", 1 << 20)
    file = tmp_path / "config.yaml"
    file.write_bytes(b"#" * ((1 << 20) + 1))
    (problem,) = diagnose(file).problems
    assert problem.message == "the file is larger than 1 MiB"


def test_aliases_of_aliases_count_as_what_they_stand_for():
    """The billion laughs: nine lines that stand for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    problem = only("\n".join(lines))
    assert "more than 1,000,000 values" in problem.message
    assert problem.line == 6


def test_merge_keys_count_as_what_they_stand_for():
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    assert "more than 1,000,000 values" in only("\n".join(lines)).message


def test_our_own_limit_of_nesting_is_named():
    assert "nested more than 32 deep" in only("[" * 40 + "]" * 40).message


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_deep_nesting_ends_at_the_limit_and_overflows_no_stack(bracket):
    """PyYAML's C composer recurses: 200,000 brackets end the process there."""
    problem = only(bracket * 200_000)
    # libyaml since 0.2.6 has a limit of its own, and reads ahead to it through what may be a key.
    assert re.search(r"nested more than 32 deep|exceeded maximum nesting depth", problem.message)
    assert problem.line == 1


def test_aliases_and_merge_keys_are_read():
    text = """\
listen: &listener
  address: 127.0.0.1
  port: 1000
  tls: {cert: c, key: k}
listeners:
  - *listener
  - {<<: *listener, port: 1001}
upstream:
  api: {route: {path_prefix: /}, backends: [{id: a, address: "http://a"}]}
"""
    configuration = load_text(text)
    assert [listener.port for listener in configuration.listeners] == [1000, 1001]
    assert configuration.listeners[1].address == "127.0.0.1"


def test_an_overridden_key_of_a_merge_has_the_place_of_the_override():
    text, line, column = marked("""\
listen:
  <<: &base {port: 1000, tls: {cert: c, key: k}}
  port: ⟦70000
upstream:
  api: {route: {path_prefix: /}, backends: [{id: a, address: "http://a"}]}
""")
    assert where(only(text)) == (line, column, "listen.port")


def test_a_merge_of_something_else_is_an_error():
    text, line, column = marked(minimal(more="log:\n  <<: ⟦[1]\n"))
    problem = only(text)
    assert problem.message.startswith("<< merges mappings")
    assert where(problem) == (line, column, "log")


def test_a_repeated_key_names_the_line_of_the_first():
    """YAML 1.2 section 3.2.1.1; PyYAML silently keeps the last."""
    text, line, column = marked(minimal(more="log:\n  level: info\n  ⟦level: debug\n"))
    problem = only(text)
    assert problem.message == "this key is here already, on line 8"
    assert where(problem) == (line, column, "log.level")


@pytest.mark.parametrize("key", ["[a, b]", "{a: b}", '""', '"\\e[31m"'])
def test_keys_are_printable_text(key):
    text, line, column = marked(minimal(more=f"log:\n  ? ⟦{key}\n  : 1\n"))
    problem = only(text)
    assert problem.message == "a key must be printable text"
    assert where(problem) == (line, column, "log")


@pytest.mark.parametrize("key", ["no", "on", "1", "1.5", "null", "2020-01-01", "12:30"])
def test_keys_that_yaml_takes_for_something_else_are_the_text_they_are(key):
    text = f"listen: {{tls: {{cert: c, key: k}}}}\nupstream:\n  {key}:\n    route: {{host: a}}\n"
    configuration = load_text(f"{text}    backends: [{{id: a, address: 'http://a'}}]\n")
    assert list(configuration.upstream) == [key]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!custom", "!!binary", "!!set"])
def test_tags_construct_nothing_and_are_named(tag):
    text, line, column = marked(minimal(more=f"log:\n  level: ⟦{tag} 'true'\n"))
    problem = only(text)
    assert "the tag" in problem.message
    assert where(problem) == (line, column, "log.level")


def test_places_are_counted_in_characters():
    text, line, column = marked(minimal(more='log: {"level": info, format: ⟦"äöü😀"}\n'))
    assert where(only(text)) == (line, column, "log.format")


def test_the_pure_parser_of_pyyaml_gives_the_same_nodes(monkeypatch):
    """A PyYAML built without libyaml has no CSafeLoader."""
    with_c = read_yaml(GOOD, Report("c"))
    monkeypatch.setattr(document_module, "_Loader", yaml.SafeLoader)
    assert read_yaml(GOOD, Report("pure")) == with_c


def test_nodes_know_whether_they_were_quoted():
    root = read_yaml("a: x\nb: 'x'\nc: \"x\"\nd: |\n  x\n", Report("x"))
    assert isinstance(root, Entries)
    plain = [value.plain for _, value in root.entries if isinstance(value, Scalar)]
    assert plain == [True, False, False, False]


def test_errors_carry_every_problem_in_their_text():
    with pytest.raises(ConfigurationError) as caught:
        load_text("version: 2\nfoo: 1\n", "x.yaml")
    assert "x.yaml:1:10: error: version: expected 1" in str(caught.value)
    assert "x.yaml:2:1: error: foo: there is no such key" in str(caught.value)
    assert caught.value.source == "version: 2\nfoo: 1\n"


def test_the_deepest_document_allowed_is_read_whole():
    """And needs no more stack than Python gives."""
    depth = document_module.MAX_DEPTH - 1
    (unknown, *_) = problems("a: " + "[" * depth + "]" * depth)
    assert unknown.message == "there is no such key"
    deeper = only("a: " + "[" * (depth + 1) + "]" * (depth + 1))
    assert "nested more than 32 deep" in deeper.message


def test_a_document_that_was_read_does_not_wait_for_the_collector():
    load_text(minimal())  # what is made once, of the schema
    gc.collect()
    gc.disable()
    try:
        load_text(minimal())
        assert gc.collect() == 0
    finally:
        gc.enable()
