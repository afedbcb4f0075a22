#include "engine/stop.h"

#include <stdlib.h>

struct nb_stop {
    nb_arena arena;
    nb_str *strings;
    size_t count;
    bool begins[256]; /* some string begins with this byte */
    nb_buf held;      /* text from the first place where a string may begin */
    int found;
};

nb_status nb_stop_new(const char *const *strings, size_t count, nb_stop **out, nb_error *err)
{
    *out = NULL;
    nb_stop *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail_memory(err, "the stop strings", sizeof *s);
    s->found = -1;
    s->count = count;
    s->strings = NB_ARRAY(&s->arena, nb_str, count);
    size_t longest = 0;
    bool failed = !s->strings;
    for (size_t i = 0; i < count && !failed; i++) {
        nb_str string = nb_str_of(strings[i]);
        char *copy = nb_arena_strdup(&s->arena, string);
        failed = !copy;
        if (failed || string.n == 0)
            continue;
        s->strings[i] = (nb_str){copy, string.n};
        s->begins[(unsigned char)copy[0]] = true;
        longest = nb_max_size(longest, string.n);
    }
    if (failed ||
        !nb_buf_reserve(&s->held, longest + 256)) { /* 256: more than a token's text, so it hardly ever grows */
        nb_stop_free(s);
        return nb_fail_memory(err, "the stop strings", count * sizeof *s->strings + longest);
    }
    *out = s;
    return NB_OK;
}

void nb_stop_free(nb_stop *s)
{
    if (!s)
        return;
    nb_arena_free(&s->arena);
    nb_buf_free(&s->held);
    free(s);
}

/* Does a string begin the text (found), or may it once more follows (true)? */
static bool may_begin(nb_stop *s, nb_str text, bool more)
{
    bool may = false;
    size_t shortest = SIZE_MAX;
    if (!s->begins[(unsigned char)text.p[0]])
        return false;
    for (size_t i = 0; i < s->count; i++) {
        nb_str string = s->strings[i];
        if (string.n == 0 || memcmp(text.p, string.p, nb_min_size(text.n, string.n)) != 0)
            continue;
        may |= more;
        if (string.n <= text.n && string.n < shortest) {
            shortest = string.n;
            s->found = (int)i;
        }
    }
    return may || s->found >= 0;
}

static bool search(nb_stop *s, bool more, nb_buf *certain)
{
    nb_str text = nb_buf_view(&s->held);
    size_t i = 0;
    while (i < text.n && !may_begin(s, (nb_str){text.p + i, text.n - i}, more))
        i++;
    nb_buf_add(certain, text.p, i);
    if (i > 0 && i < text.n)
        memmove(s->held.data, s->held.data + i, text.n - i);
    s->held.len -= i;
    if (s->found >= 0)
        s->held.len = 0;
    return s->found >= 0;
}

bool nb_stop_push(nb_stop *s, nb_str text, nb_buf *certain)
{
    if (s->found >= 0)
        return true;
    nb_buf_str(&s->held, text);
    certain->failed |= s->held.failed;
    return search(s, true, certain);
}

bool nb_stop_flush(nb_stop *s, nb_buf *certain) { return s->found >= 0 || search(s, false, certain); }

int nb_stop_which(const nb_stop *s) { return s->found; }

void nb_stop_reset(nb_stop *s)
{
    nb_buf_clear(&s->held);
    s->found = -1;
}
