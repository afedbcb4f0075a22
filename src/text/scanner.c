#include "text/scanner.h"

#include "text/utf8.h"

/* end of the run of one class that begins at i */
static size_t run_end(const unsigned char *s, size_t n, size_t i, nb_char_class class)
{
    size_t step;
    while (i < n && s[i] < 128 && nb_ascii_class[s[i]] == class)
        i++;
    while (i < n && nb_char_at(s + i, n - i, &step) == class)
        i += step;
    return i;
}

/* length of 's 't 'm 'd 're 've 'll at s[0] == '\'', 0 without; fold: any case, as (?i) has it: U+017F is an s too */
static size_t contraction(const unsigned char *s, size_t n, bool fold)
{
    if (n < 2)
        return 0;
    unsigned char mask = fold ? 0x20 : 0, a = s[1] | mask, b = n > 2 ? s[2] | mask : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return fold && n > 2 && s[1] == 0xC5 && s[2] == 0xBF ? 3 : 0;
}

/* Whitespace at s[0]: all of it where the text (or what counts as its end) follows, else all but the last character,
 * which the next word may want: \s+(?!\S)|\s+ */
static size_t whitespace(const unsigned char *s, size_t n, bool numbers_end)
{
    size_t i = 0, last = 0, step = 0;
    while (i < n && nb_char_at(s + i, n - i, &step) == NB_CHAR_SPACE) {
        last = i;
        i += step;
    }
    if (i == n || last == 0 || (numbers_end && nb_char_at(s + i, n - i, &step) == NB_CHAR_NUMBER))
        return i;
    return last;
}

static inline size_t scan_gpt2(const unsigned char *s, size_t n, bool digits)
{
    size_t step, start = 0;
    if (s[0] == '\'') {
        size_t c = contraction(s, n, false);
        if (c)
            return c;
    }
    nb_char_class class = nb_char_at(s, n, &step);
    if (digits && class == NB_CHAR_NUMBER)
        return step;
    if (s[0] == ' ' && n > 1) {
        nb_char_class next = nb_char_at(s + 1, n - 1, &step);
        if (next != NB_CHAR_SPACE && !(digits && next == NB_CHAR_NUMBER)) {
            class = next;
            start = 1;
        }
    }
    if (class == NB_CHAR_SPACE)
        return whitespace(s, n, digits);
    return run_end(s, n, start + step, class);
}

size_t nb_scan_gpt2(const unsigned char *s, size_t n) { return scan_gpt2(s, n, false); }
size_t nb_scan_gpt2_digits(const unsigned char *s, size_t n) { return scan_gpt2(s, n, true); }

/* whitespace of the Llama 3 family: up to the last line end of the run, if it has one */
static size_t whitespace_lines(const unsigned char *s, size_t n)
{
    size_t i = 0, line = 0, last = 0, step = 0;
    while (i < n && nb_char_at(s + i, n - i, &step) == NB_CHAR_SPACE) {
        last = i;
        i += step;
        if (s[last] == '\r' || s[last] == '\n')
            line = i;
    }
    if (line)
        return line;
    return i == n || last == 0 ? i : last;
}

static inline size_t scan_llama3(const unsigned char *s, size_t n, int group)
{
    size_t step, next_step;
    if (s[0] == '\'') {
        size_t c = contraction(s, n, true);
        if (c)
            return c;
    }
    nb_char_class class = nb_char_at(s, n, &step);
    if (class == NB_CHAR_LETTER)
        return run_end(s, n, step, class);
    if (class == NB_CHAR_NUMBER) {
        size_t i = step;
        for (int k = 1; k < group && i < n && nb_char_at(s + i, n - i, &step) == NB_CHAR_NUMBER; k++)
            i += step;
        return i;
    }
    nb_char_class next = step < n ? nb_char_at(s + step, n - step, &next_step) : NB_CHAR_SPACE;
    if (next == NB_CHAR_LETTER && s[0] != '\r' && s[0] != '\n')
        return run_end(s, n, step + next_step, NB_CHAR_LETTER);
    if (class == NB_CHAR_OTHER || (s[0] == ' ' && next == NB_CHAR_OTHER)) {
        size_t i = run_end(s, n, step, NB_CHAR_OTHER);
        while (i < n && (s[i] == '\r' || s[i] == '\n'))
            i++;
        return i;
    }
    return whitespace_lines(s, n);
}

size_t nb_scan_llama3(const unsigned char *s, size_t n) { return scan_llama3(s, n, 3); }
size_t nb_scan_qwen2(const unsigned char *s, size_t n) { return scan_llama3(s, n, 1); }
