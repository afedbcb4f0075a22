/* digest.h - reproducible test bytes, and a digest of long results; tools/test_digest.py is the same in numpy.
 * Both rest on the finalizer of splitmix64 (Steele, Lea, Flood 2014), which numpy can run over a whole array. */
#ifndef NB_TESTS_DIGEST_H
#define NB_TESTS_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t nb_mix64(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* n bytes that depend on seed only */
static inline void nb_seeded_bytes(uint64_t seed, void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(nb_mix64(seed + (i / 8 + 1) * 0x9e3779b97f4a7c15u) >> i % 8 * 8);
}

/* The digest of the 32-bit words that were given so far, each with its place: start with {0}. */
typedef struct nb_digest {
    uint64_t sum, count;
} nb_digest;

static inline void nb_digest_u32(nb_digest *d, uint32_t word)
{
    d->sum += nb_mix64(word + ++d->count * 0x9e3779b97f4a7c15u);
}

/* floats by their bits; every NaN counts as the same */
static inline void nb_digest_floats(nb_digest *d, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        nb_digest_u32(d, (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits);
    }
}

#endif
