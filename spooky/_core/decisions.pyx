# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The ring of recent decisions: what became of each request that a worker ended, the newest last.

The twin says how the area is laid out, and why what a reader gets is never torn.
"""

from struct import Struct

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define spooky_ring_load(word) __atomic_load_n((word), __ATOMIC_ACQUIRE)
    #define spooky_ring_store(word, value) __atomic_store_n((word), (value), __ATOMIC_RELEASE)
    #define spooky_ring_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    uint64_t load_word "spooky_ring_load"(uint64_t* word) nogil
    void store_word "spooky_ring_store"(uint64_t* word, uint64_t value) nogil
    void fence "spooky_ring_fence"() nogil

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

RING_MIN_BYTES = MIN_BYTES
RING_HEAD_BYTES = HEAD_BYTES
METHOD_MAX = METHOD_BYTES
HOST_MAX = NAME_BYTES
PATH_MAX = PATH_BYTES
NAME_MAX = NAME_BYTES
NOTES_MAX_BYTES = NOTES_BYTES
PATH_CUT = FLAG_PATH_CUT
NOTES_CUT = FLAG_NOTES_CUT
# As the structures below have it, for whoever reads records.
RECORD = Struct("<IHBBQQQddddQQHHBBBBBBBBHH")
NOTE = Struct("<BBHIddddd")
STAGE = Struct("<II12s")
STAGES_MAX = STAGES
CANDIDATE = Struct("<HHIfff")
CANDIDATES_MAX = CANDIDATES

ctypedef const char* const_char

cdef enum:
    WORD = 8
    HEAD_BYTES = 64
    MIN_BYTES = 65536
    METHOD_BYTES = 32
    NAME_BYTES = 255
    PATH_BYTES = 512
    NOTES_BYTES = 4096
    FLAG_PATH_CUT = 1
    FLAG_NOTES_CUT = 2
    AT_CAPACITY = 0
    AT_HEAD = 1
    AT_TAIL = 2
    AT_COUNT = 3
    FILLER = 0
    WHOLE = 1
    READS_MAX = 16
    ID_DIGITS = 18

# No ring is written so far: whatever is beyond it was never written by one.
cdef uint64_t POSITION_MAX = 1 << 62


cdef packed struct Record:
    uint32_t size
    uint16_t kind
    uint8_t stages
    uint8_t candidates
    uint64_t position
    uint64_t key
    uint64_t generation
    double started
    double connected
    double first_byte
    double ended
    uint64_t received
    uint64_t sent
    uint16_t reason
    uint16_t status
    uint8_t flags
    uint8_t notes
    uint8_t[6] lengths
    uint16_t path
    uint16_t notes_length


cdef packed struct Note:
    uint8_t kind
    uint8_t length
    uint16_t reason
    uint32_t unused
    double at
    double[4] numbers


@cython.final
cdef class Notes:
    """What was out of the ordinary about one request, in the order in which it happened."""

    def __init__(self):
        self._data = bytearray()

    cpdef bint add(
        self, int kind, double at, int reason, str name, double first=0.0, double second=0.0,
        double third=0.0, double fourth=0.0,
    ) except -1:
        """Add one; return whether there was room."""
        cdef Note note
        cdef Py_ssize_t length
        cdef const char* text = PyUnicode_AsUTF8AndSize(name, &length)
        cdef Py_ssize_t before = len(self._data)
        length = min(length, <Py_ssize_t>NAME_BYTES)
        if before + <Py_ssize_t>sizeof(Note) + length > NOTES_BYTES:
            self.dropped += 1
            return False
        note.kind, note.length, note.reason, note.unused = kind & 255, length, reason & 65535, 0
        note.at = at
        note.numbers[0], note.numbers[1] = first, second
        note.numbers[2], note.numbers[3] = third, fourth
        PyByteArray_Resize(self._data, before + sizeof(Note) + length)
        memcpy(PyByteArray_AS_STRING(self._data) + before, &note, sizeof(Note))
        memcpy(PyByteArray_AS_STRING(self._data) + before + sizeof(Note), text, length)
        self.count += 1
        return True

    def data(self):
        """Return all of them, as a record has them."""
        return bytes(self._data)


cdef packed struct Stage:
    uint32_t value
    uint32_t limit
    char[12] name


cdef packed struct Candidate:
    uint16_t position
    uint16_t is_chosen
    uint32_t active
    float weight
    float latency
    float score


@cython.final
@cython.freelist(64)
cdef class Admitted:
    """The stages that let a request in, each with its numbers at that moment, and its choice."""

    cpdef add(self, str name, int64_t value, int64_t limit):
        """Add a stage; those beyond `STAGES_MAX` are left out."""
        cdef Py_ssize_t length
        cdef const char* text = PyUnicode_AsUTF8AndSize(name, &length)
        cdef Stage* stage
        if self.count < STAGES:
            # Of an object that begins, all bytes are 0.
            stage = <Stage*>(self._data + self.count * STAGE_BYTES)
            stage.value, stage.limit = _narrow(value), _narrow(limit)
            memcpy(stage.name, text, min(length, <Py_ssize_t>sizeof(stage.name)))
            self.count += 1

    cpdef add_candidate(
        self, Py_ssize_t position, bint is_chosen, int64_t active, double weight, double latency,
        double score,
    ):
        """Add a backend that was held against others; see the stub."""
        cdef Candidate* candidate
        if self.candidates < CANDIDATES and position <= 0xFFFF:
            candidate = <Candidate*>(self._compared + self.candidates * CANDIDATE_BYTES)
            candidate.position, candidate.is_chosen = position, is_chosen
            candidate.active = _narrow(active)
            candidate.weight, candidate.latency, candidate.score = weight, latency, score
            self.candidates += 1

    def data(self):
        """Return all of them, as a record has them."""
        return (
            (<char*>self._data)[:self.count * STAGE_BYTES]
            + (<char*>self._compared)[:self.candidates * CANDIDATE_BYTES]
        )


@cython.final
cdef class Ring:
    """One worker slot's ring; whoever writes is alone, whoever reads disturbs nobody."""

    def __init__(self, area):
        if self._held:
            raise ValueError("a ring is set up once")
        PyObject_GetBuffer(area, &self._buffer, PyBUF_WRITABLE)
        self._held = True
        if self._buffer.len < HEAD_BYTES + MIN_BYTES:
            raise ValueError("the area is too small for a ring")
        self._words = <uint64_t*>self._buffer.buf
        self._area = <uint8_t*>self._buffer.buf + HEAD_BYTES
        self._room = (self._buffer.len - HEAD_BYTES) // WORD * WORD

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._buffer)

    @property
    def capacity(self):
        return self._capacity()

    @property
    def written(self):
        return load_word(&self._words[AT_COUNT])

    @property
    def has_forgotten(self):
        return load_word(&self._words[AT_TAIL]) > 0

    def resize(self, uint64_t capacity):
        """Use so many bytes from now on; what was written is forgotten if that is a change."""
        if capacity:
            capacity = min(max(capacity, <uint64_t>MIN_BYTES), self._room) // WORD * WORD
        if capacity == self._words[AT_CAPACITY] and _is_sound(self._words, capacity):
            return
        cdef uint64_t head = self._words[AT_HEAD]
        head = (head + WORD - 1) // WORD * WORD if head <= POSITION_MAX else 0
        # Without room, nothing is read; what it was is behind the tail then.
        store_word(&self._words[AT_CAPACITY], 0)
        fence()
        store_word(&self._words[AT_HEAD], head)
        store_word(&self._words[AT_TAIL], head)
        fence()
        store_word(&self._words[AT_CAPACITY], capacity)

    cpdef bint write(
        self, str request_id, uint64_t generation, double started, double connected,
        double first_byte, double ended, int reason, int status, uint64_t received,
        uint64_t sent, str protocol, str upstream_protocol, str upstream, str backend,
        bytes method, bytes host, bytes path, Admitted admitted=None, Notes notes=None,
    ) except -1:
        """Write what became of a request over the oldest; return whether there is a ring."""
        cdef uint64_t capacity = self._capacity()
        cdef const_char[8] texts
        cdef Py_ssize_t[8] lengths
        cdef uint64_t size, whole, head, tail, rest, filler, length
        cdef Record* record
        cdef uint8_t* target
        cdef int which
        if capacity == 0:
            return False
        texts[0] = PyUnicode_AsUTF8AndSize(protocol, &lengths[0])
        texts[1] = PyUnicode_AsUTF8AndSize(upstream_protocol, &lengths[1])
        texts[2] = PyUnicode_AsUTF8AndSize(upstream, &lengths[2])
        texts[3] = PyUnicode_AsUTF8AndSize(backend, &lengths[3])
        if method is None or host is None or path is None:
            raise TypeError("a method, a host and a path are bytes")
        texts[4], lengths[4] = PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)
        texts[5], lengths[5] = PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host)
        texts[6], lengths[6] = PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path)
        texts[7], lengths[7] = NULL, 0
        if notes is not None:
            texts[7] = <const char*>notes._data
            lengths[7] = len(notes._data)
        cdef uint64_t key = _key(request_id)
        cdef int flags = FLAG_PATH_CUT if lengths[6] > PATH_BYTES else 0
        if notes is not None and notes.dropped:
            flags |= FLAG_NOTES_CUT
        lengths[4] = min(lengths[4], <Py_ssize_t>METHOD_BYTES)
        lengths[6] = min(lengths[6], <Py_ssize_t>PATH_BYTES)
        cdef int stages = admitted.count if admitted is not None else 0
        cdef int candidates = admitted.candidates if admitted is not None else 0
        size = sizeof(Record) + stages * STAGE_BYTES + candidates * CANDIDATE_BYTES
        for which in range(8):
            if which < 6:
                lengths[which] = min(lengths[which], <Py_ssize_t>NAME_BYTES)
            size += lengths[which]
        whole = (size + WORD - 1) // WORD * WORD
        if not _is_sound(self._words, capacity):
            self.resize(capacity)
        head, tail = self._words[AT_HEAD], self._words[AT_TAIL]
        rest = capacity - head % capacity
        filler = rest if whole > rest else 0
        while head + filler + whole - tail > capacity:
            length = self._size_at(tail, head, capacity)
            tail = tail + length if length else head
        store_word(&self._words[AT_TAIL], tail)
        # Nothing of the record may be seen before the tail is.
        fence()
        if filler:
            record = <Record*>(self._area + head % capacity)
            record.size, record.kind = filler, FILLER
            record.stages = record.candidates = 0
            head += filler
        record = <Record*>(self._area + head % capacity)
        record.size, record.kind = whole, WHOLE
        record.stages, record.candidates = stages, candidates
        record.position, record.key, record.generation = head, key, generation
        record.started, record.connected = started, connected
        record.first_byte, record.ended = first_byte, ended
        record.received, record.sent = received, sent
        record.reason, record.status = reason & 65535, status & 65535
        record.flags = flags
        record.notes = notes.count if notes is not None else 0
        target = <uint8_t*>record + sizeof(Record)
        if stages:
            memcpy(target, admitted._data, stages * STAGE_BYTES)
            target += stages * STAGE_BYTES
        if candidates:
            memcpy(target, admitted._compared, candidates * CANDIDATE_BYTES)
            target += candidates * CANDIDATE_BYTES
        for which in range(8):
            if which < 6:
                record.lengths[which] = lengths[which]
            if lengths[which]:
                memcpy(target, texts[which], lengths[which])
            target += lengths[which]
        record.path, record.notes_length = lengths[6], lengths[7]
        self._words[AT_COUNT] += 1
        store_word(&self._words[AT_HEAD], head + whole)
        return True

    cpdef bytes find(self, uint64_t key):
        """Return the record of a request, the last if there are several."""
        cdef uint64_t capacity, head, tail, position, length, found_at, tail_now
        cdef Record* record
        cdef bytes found
        cdef int attempt
        for attempt in range(READS_MAX):
            capacity = self._capacity()
            if capacity == 0:
                return None
            head = load_word(&self._words[AT_HEAD])
            tail = load_word(&self._words[AT_TAIL])
            if head - tail > capacity:
                continue
            found, found_at = None, 0
            position = tail
            while position < head:
                length = self._size_at(position, head, capacity)
                if length == 0:
                    break
                record = <Record*>(self._area + position % capacity)
                if length >= sizeof(Record) and record.kind == WHOLE and record.key == key:
                    found, found_at = (<char*>record)[:length], position
                position += length
            fence()
            if load_word(&self._words[AT_CAPACITY]) != capacity:
                continue
            tail_now = load_word(&self._words[AT_TAIL])
            if found is not None and found_at >= tail_now:
                return found
            if found is None and (position >= head or tail_now == tail):
                return None
        return None

    def recent(self, Py_ssize_t count):
        """Return so many of the last records, the oldest of them first."""
        cdef uint64_t capacity, head, tail, position, length
        cdef Record* record
        cdef int attempt
        cdef list places
        for attempt in range(READS_MAX):
            capacity = self._capacity()
            if capacity == 0:
                return []
            head = load_word(&self._words[AT_HEAD])
            tail = load_word(&self._words[AT_TAIL])
            if head - tail > capacity:
                continue
            places = []
            position = tail
            while position < head:
                length = self._size_at(position, head, capacity)
                if length == 0:
                    break
                record = <Record*>(self._area + position % capacity)
                if length >= sizeof(Record) and record.kind == WHOLE:
                    places.append((position, length))
                position += length
            copies = []
            for position, length in places[-count:] if count > 0 else []:
                copies.append((position, (<char*>(self._area + position % capacity))[:length]))
            fence()
            if load_word(&self._words[AT_CAPACITY]) == capacity:
                tail = load_word(&self._words[AT_TAIL])
                return [copy for position, copy in copies if position >= tail]
        return []

    def oldest(self):
        """Return the oldest record."""
        cdef uint64_t capacity, head, position, length
        cdef Record* record
        cdef bytes found
        cdef int attempt
        for attempt in range(READS_MAX):
            capacity = self._capacity()
            head = load_word(&self._words[AT_HEAD])
            position = load_word(&self._words[AT_TAIL])
            if head - position > capacity:
                continue
            found = None
            while capacity and position < head:
                length = self._size_at(position, head, capacity)
                if length == 0:
                    break
                record = <Record*>(self._area + position % capacity)
                if length >= sizeof(Record) and record.kind == WHOLE:
                    found = (<char*>record)[:length]
                    break
                position += length
            fence()
            if (
                load_word(&self._words[AT_TAIL]) <= position
                and load_word(&self._words[AT_CAPACITY]) == capacity
            ):
                return found
        return None

    cdef uint64_t _capacity(self) noexcept:
        """Return the capacity; 0 for one that cannot be."""
        cdef uint64_t capacity = load_word(&self._words[AT_CAPACITY])
        return capacity if MIN_BYTES <= capacity <= self._room and capacity % WORD == 0 else 0

    cdef uint64_t _size_at(self, uint64_t position, uint64_t head, uint64_t capacity) noexcept:
        """Return how long what is at a position is; 0 if it is nothing that could be there."""
        cdef uint64_t place = position % capacity
        cdef uint64_t length
        if place % WORD:
            return 0
        length = (<uint32_t*>(self._area + place))[0]
        if length == 0 or length % WORD or length > capacity - place or length > head - position:
            return 0
        return length


cdef bint _is_sound(uint64_t* words, uint64_t capacity) noexcept:
    """Return whether head and tail are where a writer can have put them."""
    cdef uint64_t head = words[AT_HEAD]
    cdef uint64_t tail = words[AT_TAIL]
    # A tail beyond the head makes the difference greater than every capacity.
    return (head | tail) % WORD == 0 and head <= POSITION_MAX and head - tail <= capacity


def key_of(str request_id):
    """Return what a request is found by: its id without the slot."""
    return _key(request_id)


cdef uint64_t _key(str request_id) except? 0:
    """Return the number that an id says after its slot.

    Raises:
        ValueError: It is no id.
    """
    cdef Py_ssize_t length
    cdef const char* text = PyUnicode_AsUTF8AndSize(request_id, &length)
    cdef uint64_t key = 0
    cdef int digit, place
    if length != ID_DIGITS:
        raise ValueError("a request id has 18 digits")
    for place in range(2, ID_DIGITS):
        digit = text[place]
        if 48 <= digit <= 57:
            digit -= 48
        elif 97 <= digit <= 102:
            digit -= 87
        else:
            raise ValueError("a request id has hexadecimal digits")
        key = key << 4 | <uint64_t>digit
    return key


cdef uint32_t _narrow(int64_t number) noexcept:
    """Return a number as 32 bits can hold it."""
    return <uint32_t>min(max(number, <int64_t>0), <int64_t>0xFFFFFFFF)
