"""What a stream sends again, and when the peer has all of it (RFC 9000 sections 3.1 and 13.3)."""

from spooky._core.quic.send_buffer import SendBuffer

NO_LIMIT = 1 << 60


def sent(data: bytes) -> SendBuffer:
    """Return a buffer of which everything was sent once, the end included."""
    buffer = SendBuffer()
    buffer.append(data, True)
    assert buffer.take(len(data), NO_LIMIT) == (0, data, True)
    return buffer


def test_an_end_that_the_peer_has_is_not_sent_again() -> None:
    """The first copy is declared lost after the second was acknowledged."""
    buffer = sent(b"abc")
    buffer.lost(0, 3, True)
    assert buffer.take(3, NO_LIMIT) == (0, b"abc", True)
    buffer.acked(0, 3, True)
    assert buffer.state() == (False, True)
    buffer.lost(0, 3, True)
    assert buffer.state() == (False, True)


def test_an_end_that_the_peer_has_is_not_sent_again_while_data_is_missing() -> None:
    buffer = sent(b"abc")
    buffer.lost(0, 3, True)
    buffer.acked(2, 3, True)
    buffer.lost(2, 3, True)
    assert buffer.take(9, NO_LIMIT) == (0, b"ab", False)
    assert buffer.state() == (False, False)
    buffer.acked(0, 2, False)
    assert buffer.state() == (False, True)


def test_an_end_alone_is_sent_again_where_it_is_lost() -> None:
    buffer = SendBuffer()
    buffer.append(b"", True)
    assert buffer.take(9, NO_LIMIT) == (0, b"", True)
    buffer.lost(0, 0, True)
    assert buffer.state() == (True, False)
    assert buffer.take(9, NO_LIMIT) == (0, b"", True)
    buffer.acked(0, 0, True)
    assert buffer.state() == (False, True)
