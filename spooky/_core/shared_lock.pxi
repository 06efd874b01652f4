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

       Patience is counted in looks, not by a clock: who has the lock may not run just now, as the
       machine stands still or runs others, and then who waits does not look either. It lasts half
       a second at least, and never less than 20 ms, for who has it to have its turn on a core. */
    #define SPOOKY_LOOK_NANOSECONDS 50000
    #define SPOOKY_PATIENCE_MAX 10000U
    #define SPOOKY_PATIENCE_MIN 400U
    #define SPOOKY_PATIENCE_STEP 10U
    static unsigned spooky_patience = SPOOKY_PATIENCE_MAX;

    static void spooky_pause(void) {
        struct timespec pause = {0, SPOOKY_LOOK_NANOSECONDS};
        /* A signal makes no look shorter. */
        while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {}
    }

    static uint64_t spooky_lock(uint64_t *word) {
        uint64_t seen = spooky_load(word), last = 0;
        unsigned looks = 0, same = 0;
        for (;;) {
            uint64_t mine = ((seen >> 32) + 1) << 32 | (uint32_t)getpid();
            uint32_t owner = (uint32_t)seen;
            int late = 0;
            if (owner != 0) {
                if (seen != last) { last = seen; same = 0; }
                late = same > spooky_patience || looks > 4 * spooky_patience;
                if (!late && !(kill((pid_t)owner, 0) != 0 && errno == ESRCH)) {
                    spooky_pause();
                    looks++;
                    same++;
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
