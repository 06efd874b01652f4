"""Request ids: what the access log has, and nothing that is read alike."""

import pytest

from spooky.observe.decisions import parse_id


def test_an_id_is_a_slot_and_a_number() -> None:
    assert parse_id("0a0123456789abcdef") == (10, 0x0123_4567_89AB_CDEF)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0a0123456789abcde",
        "0A0123456789abcdef",
        "+a0123456789abcdef",
        " a0123456789abcdef",
        "0a0123456789ABCDEF",
        "0a0123_56789abcdef",
        "0a0123456789abcde\n",
        "\u0660a0123456789abcdef",
    ],
)
def test_what_only_looks_like_one_is_refused(text: str) -> None:
    """Found by fuzzing: the slot was read with signs, spaces and capitals as well."""
    with pytest.raises(ValueError, match="a request id has"):
        parse_id(text)
