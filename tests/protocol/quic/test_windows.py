"""Windows that tune themselves, and the account they share."""

from spooky.protocol.quic.windows import ReceiveWindow, WindowAccount

KIB = 1024
ROUND_TRIP = 0.05


def consume_at(window: ReceiveWindow, rate: float, seconds: float) -> None:
    """Consume at a rate (bytes/s), asking what the window should be at every quarter of it."""
    now = end = 100.0
    end += seconds
    while now < end:
        step = window.size // 4
        window.consumed += step
        now += step / rate
        window.size = window.wanted_size(now, ROUND_TRIP)


def test_a_window_that_limits_the_transfer_grows_to_its_maximum() -> None:
    window = ReceiveWindow(256 * KIB, 6144 * KIB)
    # A window per round trip: what a sender achieves that waits for credit.
    for _ in range(8):
        consume_at(window, window.size / ROUND_TRIP, 0.3)
    assert window.size == 6144 * KIB


def test_a_slow_reader_leaves_the_window_small() -> None:
    window = ReceiveWindow(256 * KIB, 6144 * KIB)
    consume_at(window, 256 * KIB / (4 * ROUND_TRIP), 5)
    assert window.size == 256 * KIB


def test_a_window_fits_the_path() -> None:
    """It stops when it is more than what the rate needs in two round trips."""
    window = ReceiveWindow(256 * KIB, 6144 * KIB)
    rate = 10_000 * KIB
    consume_at(window, rate, 10)
    assert rate * ROUND_TRIP <= window.size <= 4 * rate * ROUND_TRIP


def test_nothing_grows_before_a_round_trip_is_known() -> None:
    window = ReceiveWindow(256 * KIB, 6144 * KIB)
    for moment in range(10):
        window.consumed += window.size
        assert window.wanted_size(moment / 1000, 0.0) == 256 * KIB


def test_a_limit_is_announced_by_quarters() -> None:
    window = ReceiveWindow(256 * KIB, 256 * KIB)
    assert window.announce_at == 64 * KIB
    window.consumed = 80 * KIB
    assert window.announce() == 336 * KIB
    assert window.announce_at == 144 * KIB


def test_an_account_grows_to_its_limit_and_takes_back() -> None:
    account = WindowAccount(100)
    assert account.grow(60)
    assert not account.grow(41)
    assert account.grow(40)
    account.give_back(60)
    assert account.grow(60)
    assert account.spent == 100
