# The lock of the segment's table of entries.

cdef extern from *:
    """
    #include <errno.h>
    #include <signal.h>
    #include <time.h>
    #include <unistd.h>

    /* The lock is a word: how often it was taken, and below that the process that has it, or 0.
       Whoever maps the segment can write it, so nobody relies on its being given back: from a
       process that is dead it is taken at once, from another when patience ends, which is far
       longer than the microseconds that anybody needs it. Each time that happens patience falls
       to an eighth, and each lock taken in order gives some of it back: so who keeps the lock
       again and again delays others by less and less.

       Patience is time, but of no look more than 5 ms: who has the lock may not run just now, as
       the machine stands still or runs others, and then who waits does not look either. So it is
       a second where who waits has its turns, and at most 200 turns where it has few: a bound for
       both. It is never less than 20 ms, for who has the lock to have its turn on a core. */
    #define SPOOKY_LOOK_NANOSECONDS 50000L
    #define SPOOKY_LOOK_COUNTS_MAX 5000000ULL
    #define SPOOKY_PATIENCE_MAX 1000000000ULL
    #define SPOOKY_PATIENCE_MIN 20000000ULL
    #define SPOOKY_PATIENCE_STEP 1000000ULL
    static uint64_t spooky_patience = SPOOKY_PATIENCE_MAX;

    static uint64_t spooky_nanoseconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
    }

    /* Return how long that counts. */
    static uint64_t spooky_pause(void) {
        struct timespec pause = {0, SPOOKY_LOOK_NANOSECONDS};
        uint64_t began = spooky_nanoseconds(), took;
        /* A signal makes no look shorter. */
        while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {}
        took = spooky_nanoseconds() - began;
        return took < SPOOKY_LOOK_COUNTS_MAX ? took : SPOOKY_LOOK_COUNTS_MAX;
    }

    static uint64_t spooky_lock(uint64_t *word) {
        uint64_t seen = spooky_load(word), last = 0, waited = 0, same = 0;
        for (;;) {
            uint64_t mine = ((seen >> 32) + 1) << 32 | (uint32_t)getpid();
            uint32_t owner = (uint32_t)seen;
            int late = 0;
            if (owner != 0) {
                if (seen != last) { last = seen; same = 0; }
                late = same > spooky_patience || waited > 4 * spooky_patience;
                if (!late && !(kill((pid_t)owner, 0) != 0 && errno == ESRCH)) {
                    uint64_t counts = spooky_pause();
                    waited += counts;
                    same += counts;
                    seen = spooky_load(word);
                    continue;
                }
            }
            if (!spooky_swap(word, &seen, mine)) continue;
            if (late) {
                spooky_patience /= 8;
                if (spooky_patience < SPOOKY_PATIENCE_MIN) spooky_patience = SPOOKY_PATIENCE_MIN;
            } else if (spooky_patience < SPOOKY_PATIENCE_MAX) {
                spooky_patience += SPOOKY_PATIENCE_STEP;
            }
            return mine;
        }
    }
    static void spooky_unlock(uint64_t *word, uint64_t mine) {
        /* Not of somebody who took it over meanwhile. */
        uint64_t expected = mine;
        spooky_swap(word, &expected, mine >> 32 << 32);
    }
    """
    # Takes the lock; returns what gives it back.
    uint64_t lock "spooky_lock"(uint64_t* word) nogil
    void unlock "spooky_unlock"(uint64_t* word, uint64_t mine) nogil
