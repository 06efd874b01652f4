/* Tells libFuzzer what ran in the kernels, and what they compared.

   gcc calls __sanitizer_cov_trace_pc() in each basic block, which libFuzzer does not listen to any
   more. What it reads are counters of 8 bits; so each block counts in one of these, found by its
   address. Two blocks may share one, which only hides a little. Comparisons are passed on.

   libFuzzer's own functions of these names are in a module of Python's, where kernels cannot find
   them, and must not: atheris takes a libFuzzer that everybody can find for another one. */

#include <stdint.h>

#define COUNTERS 65536

static uint8_t counters[COUNTERS];
static uintptr_t table[COUNTERS][2]; /* libFuzzer wants an address for each; none is printed. */

void __sanitizer_cov_trace_pc(void)
{
    uint64_t address = (uint64_t)(uintptr_t)__builtin_return_address(0);
    uint8_t *counter = &counters[(address * 0x9E3779B97F4A7C15ull) >> 48];
    if (*counter < 255) {
        ++*counter;
    }
}

/* Optimised, a call at the end is a jump: libFuzzer sees the kernel as its caller. */
#define PASSED_ON(NAME, TYPE)                                \
    void (*pass_##NAME)(TYPE, TYPE);                         \
    void __sanitizer_cov_trace_##NAME(TYPE a, TYPE b)        \
    {                                                        \
        pass_##NAME(a, b);                                   \
    }

PASSED_ON(cmp1, uint8_t)
PASSED_ON(cmp2, uint16_t)
PASSED_ON(cmp4, uint32_t)
PASSED_ON(cmp8, uint64_t)
PASSED_ON(const_cmp1, uint8_t)
PASSED_ON(const_cmp2, uint16_t)
PASSED_ON(const_cmp4, uint32_t)
PASSED_ON(const_cmp8, uint64_t)

void (*pass_switch)(uint64_t, uint64_t *);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases)
{
    pass_switch(value, cases);
}

/* libFuzzer has no use for floating-point numbers. */
void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a; (void)b; }
void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a; (void)b; }

/* Shows the counters to libFuzzer, whose functions for that are the arguments. */
void begin(void (*take_counters)(uint8_t *, uint8_t *),
           void (*take_addresses)(const uintptr_t *, const uintptr_t *))
{
    take_counters(counters, counters + COUNTERS);
    take_addresses(table[0], table[COUNTERS]);
}
