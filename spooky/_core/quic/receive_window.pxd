"""How much a peer may send: receive windows that follow consumption and tune themselves; inline.

A window is what may be outstanding, so the limit announced is what was consumed plus the window.
It starts small and doubles while the application keeps up with the path: when a window's worth is
consumed within about two round trips, it is the window that limits the transfer.
"""

from libc.stdint cimport uint64_t

cdef enum:
    # A new limit is announced when this part of the window was consumed: often enough that the
    # peer is not held up, seldom enough that the frames cost nothing.
    ANNOUNCE_FRACTION = 4
    # Consumption is measured over at least this part of a window, lest one burst decide.
    MEASURE_FRACTION = 2
    # A window consumed faster than in this many round trips is too small for the path.
    TUNE_ROUND_TRIPS = 2


cdef struct ReceiveWindow:
    uint64_t size  # Bytes that may be outstanding.
    uint64_t limit  # The highest offset announced.
    uint64_t consumed
    uint64_t announce_at  # What must be consumed to make a new limit worth announcing.
    uint64_t measured_from
    double measured_since
    bint measuring


cdef inline void open_window(ReceiveWindow* window, uint64_t size) noexcept:
    window.size = size
    window.limit = size
    window.consumed = 0
    window.announce_at = size // ANNOUNCE_FRACTION
    window.measured_from = 0
    window.measuring = False


cdef inline uint64_t announce(ReceiveWindow* window) noexcept:
    # The highest offset the peer may send up to, which is being announced.
    window.announce_at = window.consumed + window.size // ANNOUNCE_FRACTION
    window.limit = window.consumed + window.size
    return window.limit


cdef inline uint64_t wanted_size(
    ReceiveWindow* window, uint64_t maximum, double now, double round_trip
) noexcept:
    # The size the window should have, from how fast it was consumed lately.
    cdef uint64_t count = window.consumed - window.measured_from
    cdef double since = window.measured_since
    cdef bint measuring = window.measuring
    if measuring and count < window.size // MEASURE_FRACTION:
        return window.size
    window.measuring = True
    window.measured_since = now
    window.measured_from = window.consumed
    if not measuring or window.size >= maximum:
        return window.size
    if (now - since) * window.size < TUNE_ROUND_TRIPS * round_trip * count:
        return min(2 * window.size, maximum)
    return window.size
