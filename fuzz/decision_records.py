"""Records of requests as a worker leaves them in shared memory, where only the supervisor reads.

A worker that was taken over may write what it likes there. Records are what they may be, and their
texts are good for JSON. The first byte says how long an id is asked for beside the record.
"""

from collections.abc import Iterator

import msgspec

from spooky.observe.decisions import ID_DIGITS, RECORD, STAGE, Decision, decode, parse_id


def record(stages: int = 0, notes: int = 0, texts: tuple[bytes, ...] = (b"",) * 8) -> bytes:
    """Return a record that is right."""
    lengths = [len(text) for text in texts]
    size = RECORD.size + stages * STAGE.size + sum(lengths)
    times = 1.0, 1.5, -1.0, 2.0
    head = RECORD.pack(size, 0, stages, 0, 0, 7, 1, *times, 0, 0, 3, 200, 0, notes, *lengths)
    return head + bytes(stages * STAGE.size) + b"".join(texts)


def seeds() -> Iterator[bytes]:
    """Yield records with stages, notes and texts, and some cut off."""
    texts = (b"h3", b"", b"api", b"a", b"GET", b"example.com", b"/caf\xc3\xa9", bytes(60))
    for stages in range(3):
        whole = record(stages, stages, texts)
        yield b"\x12" + b"01" + b"0123456789abcdef" + whole
        yield b"\x12" + b"0123456789ABCDEF01" + whole[:-7]
    yield b"\x05" + b"ff 00"


def run(data: bytes) -> None:
    """Read a record and an id."""
    length = min(data[0] if data else 0, 2 * ID_DIGITS)
    text, rest = data[1 : 1 + length].decode("latin-1"), data[1 + length :]
    try:
        slot, key = parse_id(text)
    except ValueError as error:
        assert str(error)
    else:
        assert f"{slot:02x}{key:016x}" == text
    found = decode(1, rest)
    if found is None:
        return
    assert isinstance(found, Decision)
    assert len(found.path) <= len(rest)
    msgspec.json.encode((found.protocol, found.upstream, found.backend))
    msgspec.json.encode([(note.name, note.at) for note in found.notes])
