/* utf8.h - strict UTF-8 decoding and the character classes that tokenizers ask for. */
#ifndef NB_TEXT_UTF8_H
#define NB_TEXT_UTF8_H

#include "base/mem.h"

/* Length of the code point at s (n >= 1 bytes remain), written to *cp; 0 when the bytes there are not one. */
static inline size_t nb_utf8_decode(const unsigned char *s, size_t n, uint32_t *cp)
{
    uint32_t c = s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c < 0xC2 || c > 0xF4 || n < 2 || (s[1] & 0xC0) != 0x80)
        return 0;
    if (c < 0xE0) {
        *cp = (c & 31) << 6 | (s[1] & 63);
        return 2;
    }
    if (n < 3 || (s[2] & 0xC0) != 0x80)
        return 0;
    if (c < 0xF0) {
        *cp = (c & 15) << 12 | (uint32_t)(s[1] & 63) << 6 | (s[2] & 63);
        return *cp >= 0x800 && (*cp < 0xD800 || *cp > 0xDFFF) ? 3 : 0;
    }
    if (n < 4 || (s[3] & 0xC0) != 0x80)
        return 0;
    *cp = (c & 7) << 18 | (uint32_t)(s[1] & 63) << 12 | (uint32_t)(s[2] & 63) << 6 | (s[3] & 63);
    return *cp >= 0x10000 && *cp <= 0x10FFFF ? 4 : 0;
}

/* How many bytes at s may be taken as one character: a code point, or a single byte that is not part of one. */
static inline size_t nb_utf8_step(const unsigned char *s, size_t n)
{
    uint32_t cp;
    size_t step = nb_utf8_decode(s, n, &cp);
    return step ? step : 1;
}

/* of the expressions: \p{L}, \p{N}, \s (White_Space), and the rest */
typedef enum nb_char_class { NB_CHAR_OTHER, NB_CHAR_LETTER, NB_CHAR_NUMBER, NB_CHAR_SPACE } nb_char_class;

nb_char_class nb_char_class_of(uint32_t cp);

extern const unsigned char nb_ascii_class[128]; /* the same for code points below 128 */

/* The class of the character at s, its length in *step. A byte that is not UTF-8 is NB_CHAR_OTHER. */
static inline nb_char_class nb_char_at(const unsigned char *s, size_t n, size_t *step)
{
    uint32_t cp;
    if (s[0] < 128) {
        *step = 1;
        return (nb_char_class)nb_ascii_class[s[0]];
    }
    *step = nb_utf8_decode(s, n, &cp);
    if (*step)
        return nb_char_class_of(cp);
    *step = 1;
    return NB_CHAR_OTHER;
}

#endif
