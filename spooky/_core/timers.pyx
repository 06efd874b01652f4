# cython: language_level=3, boundscheck=False, wraparound=False
"""One timer wheel for every timeout of a worker: hierarchical, after Varghese and Lauck.

Level 0 has one slot a tick, each higher level one slot for 64 of the level below. A timer is
filed at the level of the highest bit in which its tick differs from the current one, so all
timers of a level lie in its present turn, in slots not yet passed, and every timer of a lower
level precedes every timer of a higher one. A timer postponed stays where it is until its slot
comes up.
"""

cimport cython
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define spooky_lowest_bit(bits) __builtin_ctzll(bits)
    #define spooky_highest_bit(bits) (63 - __builtin_clzll(bits))
    """
    int lowest_bit "spooky_lowest_bit"(uint64_t bits) nogil
    int highest_bit "spooky_highest_bit"(uint64_t bits) nogil

cdef int64_t LAST_TICK = (<int64_t>1 << (LEVELS * SLOT_BITS)) - 1
cdef int NOT_FILED = -1


@cython.final
@cython.freelist(256)
cdef class Timer:
    """A timeout that can be moved and cancelled; create it with ``TimerWheel.schedule``.

    Attributes:
        deadline: When it fires, seconds on the caller's clock.
        active: Whether it will fire.
    """

    @property
    def active(self):
        return self._callback is not None

    def __lt__(self, Timer other):
        return _fires_before(self, other)

    cpdef cancel(self):
        """Make sure it does not fire; idempotent, O(1)."""
        cdef TimerWheel wheel = self._wheel
        if self._callback is None:
            return
        self._callback = None
        self._wheel = None
        wheel._active -= 1
        if self._slot != NOT_FILED:
            wheel._unfile(self)

    cpdef postpone(self, double deadline):
        """Move the deadline; O(1), later deadlines touch no list. Reactivates nothing."""
        _check(deadline)
        if self._callback is None:
            return
        self.deadline = deadline
        if deadline < self._filed:
            self._wheel._unfile(self)
            self._wheel._file(self)


@cython.final
cdef class TimerWheel:
    """A hashed, hierarchical wheel; O(1) to schedule, postpone and cancel.

    Timers fire at the first ``advance`` at or after their deadline, never before it: those due
    in one ``advance`` by deadline, then in the order they were scheduled.

    Arguments:
        now: The current time, seconds.
        tick: Resolution, seconds.
    """

    def __init__(self, double now, double tick=0.01):
        if not isfinite(now):
            raise ValueError("a time must be a number")
        if not 0.0 < tick < INFINITY:
            raise ValueError("tick must be positive")
        cdef int level
        self._origin = now
        self._ticks_per_second = 1.0 / tick
        self._tick = 0
        for level in range(LEVELS):
            self._occupied[level] = 0
        self._slots = [[] for _ in range(LEVELS * SLOTS)]
        self._due = []
        self._active = 0
        self._sequence = 0
        self._advancing = False

    def __len__(self):
        return self._active

    cpdef Timer schedule(self, double deadline, object callback):
        """Call ``callback`` at ``deadline``; a past deadline fires at the next ``advance``."""
        _check(deadline)
        cdef Timer timer = Timer.__new__(Timer)
        timer.deadline = deadline
        timer._callback = callback
        timer._wheel = self
        timer._sequence = self._sequence
        self._sequence += 1
        self._active += 1
        self._file(timer)
        return timer

    cpdef advance(self, double now):
        """Fire what is due. An exception of a callback leaves the rest for the next call.

        What a callback schedules fires at the next call at the earliest.

        Raises:
            RuntimeError: Called from a callback.
        """
        _check(now)
        if self._advancing:
            raise RuntimeError("advance was called from a timer's callback")
        self._collect(now)
        self._advancing = True
        try:
            while self._due:
                self._fire(<Timer>self._due.pop(), now)
        finally:
            self._advancing = False

    cpdef object next_deadline(self):
        """Return when ``advance`` should be called next, or ``None`` if no timer is active.

        May be early (by design it is cheap, not exact), never late.
        """
        cdef int level
        cdef double earliest = INFINITY
        cdef Timer timer
        if self._active == 0:
            return None
        for level in range(LEVELS):
            if self._occupied[level]:
                earliest = self._earliest[level * SLOTS + lowest_bit(self._occupied[level])]
                break
        for timer in self._due:
            if timer._callback is not None and timer.deadline < earliest:
                earliest = timer.deadline
        return earliest

    cdef int64_t _tick_of(self, double time) noexcept:
        """Return the tick a time falls into: monotonic, and within the wheel's reach."""
        cdef double ticks = (time - self._origin) * self._ticks_per_second
        if ticks <= 0.0:
            return 0
        return <int64_t>ticks if ticks < <double>LAST_TICK else LAST_TICK

    cdef int _file(self, Timer timer) except -1:
        """Put a timer, which must be in no slot, into the one of its deadline."""
        cdef int64_t tick = max(self._tick_of(timer.deadline), self._tick)
        cdef int level = highest_bit((tick ^ self._tick) | 1) // SLOT_BITS
        cdef int position = (tick >> (level * SLOT_BITS)) & (SLOTS - 1)
        cdef int slot = level * SLOTS + position
        cdef uint64_t bit = <uint64_t>1 << position
        cdef list timers = <list>self._slots[slot]
        if not self._occupied[level] & bit or timer.deadline < self._earliest[slot]:
            self._earliest[slot] = timer.deadline
        self._occupied[level] |= bit
        timer._filed = timer.deadline
        timer._slot = slot
        timer._index = len(timers)
        timers.append(timer)
        return 0

    cdef int _unfile(self, Timer timer) except -1:
        """Take a timer out of its slot; the last one there takes its place."""
        cdef list timers = <list>self._slots[timer._slot]
        cdef Timer last = <Timer>timers.pop()
        if last is not timer:
            timers[timer._index] = last
            last._index = timer._index
        elif not timers:
            self._occupied[timer._slot // SLOTS] &= ~(<uint64_t>1 << (timer._slot % SLOTS))
        timer._slot = NOT_FILED
        return 0

    cdef int _collect(self, double now) except -1:
        """Move what is due from the slots to ``_due``, which is kept last first."""
        cdef int64_t before = self._tick
        cdef int64_t tick = max(self._tick_of(now), before)
        cdef int level, slot, shift
        cdef uint64_t passed
        cdef list timers
        self._tick = tick
        for level in range(LEVELS):
            passed = self._occupied[level]
            shift = level * SLOT_BITS
            if tick >> shift >> SLOT_BITS == before >> shift >> SLOT_BITS:
                # Still the same turn of this level: the slots up to the one of now.
                passed &= (<uint64_t>2 << ((tick >> shift) & (SLOTS - 1))) - 1
            while passed:
                slot = level * SLOTS + lowest_bit(passed)
                passed &= passed - 1
                if level == 0 and self._earliest[slot] > now:
                    continue  # The slot of this very tick, and nothing in it is due.
                timers = <list>self._slots[slot]
                self._slots[slot] = []
                self._occupied[level] &= ~(<uint64_t>1 << (slot % SLOTS))
                self._examine(timers, now)
        if len(self._due) > 1:
            self._due.sort(reverse=True)
        return 0

    cdef int _examine(self, list timers, double now) except -1:
        """File the timers of a slot that came up again, or as due."""
        cdef Timer timer
        for timer in timers:
            if timer.deadline > now:
                self._file(timer)
            else:
                timer._slot = NOT_FILED
                timer._filed = -INFINITY  # While due, no postponement files it again.
                self._due.append(timer)
        return 0

    cdef int _fire(self, Timer timer, double now) except -1:
        """Call a timer that is due, unless an earlier callback cancelled or postponed it."""
        cdef object callback = timer._callback
        if callback is None:
            return 0
        if timer.deadline > now:
            self._file(timer)
            return 0
        timer._callback = None
        timer._wheel = None
        self._active -= 1
        callback()
        return 0


cdef inline bint _fires_before(Timer one, Timer other) noexcept:
    if one.deadline != other.deadline:
        return one.deadline < other.deadline
    return one._sequence < other._sequence


cdef inline int _check(double time) except -1:
    if time != time:
        raise ValueError("a time must be a number")
    return 0
