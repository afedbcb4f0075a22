/* markup.h - checks that HTML and SVG are well formed: every tag that opens closes, in order. Include after cmocka.h. */
#ifndef NB_TESTS_MARKUP_H
#define NB_TESTS_MARKUP_H

#include <stdlib.h>
#include <string.h>

static inline size_t nb_markup_count(const char *text, const char *part)
{
    size_t n = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

static inline void nb_markup_check(const char *text)
{
    char open[64][16];
    size_t depth = 0;
    for (const char *p = text; (p = strchr(p, '<'));) {
        const char *end = strchr(p, '>');
        size_t n = strcspn(p + 1, " />\n");
        if (!end)
            fail_msg("a tag has no end: %.40s", p);
        if (p[1] == '/') {
            n = (size_t)(end - p) - 2;
            if (depth == 0 || strlen(open[depth - 1]) != n || strncmp(open[depth - 1], p + 2, n) != 0)
                fail_msg("%.*s closes <%s>", (int)n + 3, p, depth ? open[depth - 1] : "nothing");
            depth--;
        } else if (p[1] != '!' && end[-1] != '/' && strncmp(p, "<meta", 5) != 0) {
            assert_true(depth < 64 && n > 0 && n < 16);
            memcpy(open[depth], p + 1, n);
            open[depth++][n] = '\0';
        }
        p = end + 1;
    }
    if (depth)
        fail_msg("<%s> is never closed", open[depth - 1]);
}

#endif
