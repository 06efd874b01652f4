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
       again and again delays others by less and less. */
    #define SPOOKY_PATIENCE_MAX 1000000000ULL
    #define SPOOKY_PATIENCE_MIN 100000ULL
    #define SPOOKY_PATIENCE_STEP 1000000ULL
    static uint64_t spooky_patience = SPOOKY_PATIENCE_MAX;

    static uint64_t spooky_nanoseconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
    }

    static uint64_t spooky_lock(uint64_t *word) {
        const struct timespec pause = {0, 50000};
        uint64_t seen = spooky_load(word), last = 0, began = 0, changed = 0;
        for (;;) {
            uint64_t mine = ((seen >> 32) + 1) << 32 | (uint32_t)getpid();
            uint32_t owner = (uint32_t)seen;
            int late = 0;
            if (owner != 0) {
                uint64_t now = spooky_nanoseconds();
                if (began == 0) began = now;
                if (seen != last) { last = seen; changed = now; }
                late = now - changed > spooky_patience || now - began > 4 * spooky_patience;
                if (!late && !(kill((pid_t)owner, 0) != 0 && errno == ESRCH)) {
                    nanosleep(&pause, NULL);
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
