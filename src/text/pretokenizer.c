#include "text/pretokenizer.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include "text/tokenizer.h"
#include "text/utf8.h"

enum { MAX_STAGES = NB_PRE_EXPRESSIONS };

enum {
#define NB_PRE(id, scan, ...) PRE_##id,
#include "text/pretokenizers.def"
    PRE_COUNT
};

typedef struct family {
    nb_scan_fn *scan;
    const char *expression[MAX_STAGES];
} family;

static const family families[PRE_COUNT] = {
#define NB_PRE(id, scan, ...) [PRE_##id] = {scan, {__VA_ARGS__}},
#include "text/pretokenizers.def"
};

static const struct {
    unsigned char family, flags;
} rows[] = {
#define NB_PRE_NAME(name, id, flags) {PRE_##id, flags},
#include "text/pretokenizers.def"
};

static const char *const row_names[] = {
#define NB_PRE_NAME(name, id, flags) name,
#include "text/pretokenizers.def"
};

enum { ROWS = sizeof rows / sizeof *rows };

struct nb_pretokenizer {
    const family *family;
    family own;                   /* that `family` points to, for expressions of a file */
    pcre2_code *code[MAX_STAGES]; /* NULL where the stage is done in code */
};

size_t nb_pretokenizer_names(const char *const **names)
{
    *names = row_names;
    return ROWS;
}

static int find_row(nb_str name)
{
    if (name.n == 0)
        name = NB_STR("default");
    for (int i = 0; i < ROWS; i++)
        if (nb_str_eqz(name, row_names[i]))
            return i;
    return -1;
}

unsigned nb_pretokenizer_flags(nb_str name)
{
    int row = find_row(name);
    return row < 0 ? 0 : rows[row].flags;
}

/* Line ends are written out or escaped, as the source of an expression has it. */
static bool same_expression(const char *a, const char *b)
{
    while (*a && *b) {
        char x = *a, y = *b;
        if (x == '\\' && (a[1] == 'r' || a[1] == 'n'))
            x = *++a == 'r' ? '\r' : '\n';
        if (y == '\\' && (b[1] == 'r' || b[1] == 'n'))
            y = *++b == 'r' ? '\r' : '\n';
        if (x != y)
            return false;
        a++;
        b++;
    }
    return *a == *b;
}

const char *const *nb_pretokenizer_expressions(nb_str name, size_t *count)
{
    int row = find_row(name);
    *count = 0;
    if (row < 0)
        return NULL;
    const char *const *e = families[rows[row].family].expression;
    while (*count < MAX_STAGES && e[*count])
        ++*count;
    return e;
}

const char *nb_pretokenizer_name(const char *const *expressions, size_t count, bool ignore_merges)
{
    for (int i = 0; i < ROWS && count <= MAX_STAGES; i++) {
        const char *const *known = families[rows[i].family].expression;
        size_t n = 0;
        if (rows[i].flags & NB_PRE_RAW || ignore_merges != ((rows[i].flags & NB_PRE_IGNORE_MERGES) != 0))
            continue;
        while (n < count && known[n] && same_expression(known[n], expressions[n]))
            n++;
        if (n == count && (n == MAX_STAGES || !known[n]))
            return row_names[i];
    }
    return NULL;
}

/* PCRE2's own \s also has U+180E, which is no White_Space since Unicode 6.3 and none in the models' tokenizers. */
static void spell_out_spaces(const char *expression, nb_buf *out)
{
    for (const char *p = expression; *p; p++) {
        if (*p != '\\' || !p[1]) {
            nb_buf_char(out, *p);
            continue;
        }
        p++;
        if (*p == 's' || *p == 'S')
            nb_buf_z(out, *p == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
        else
            nb_buf_add(out, p - 1, 2);
    }
}

static nb_status compile(const char *name, const char *expression, pcre2_code **code, nb_error *err)
{
    nb_buf text = {0};
    int number = 0;
    PCRE2_SIZE where = 0;
    spell_out_spaces(expression, &text);
    if (text.failed) {
        nb_buf_free(&text);
        return nb_fail_memory(err, "pre-tokenizer", strlen(expression));
    }
    *code = pcre2_compile((PCRE2_SPTR)text.data, text.len, PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &number,
                          &where, NULL);
    nb_buf_free(&text);
    if (!*code && number == PCRE2_ERROR_HEAP_FAILED)
        return nb_fail_memory(err, "pre-tokenizer", strlen(expression));
    if (!*code) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(number, message, sizeof message);
        return nb_fail(err, NB_ERR_INTERNAL, "pre-tokenizer '%s': byte %zu of its expression: %s", name, (size_t)where,
                       (const char *)message);
    }
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter does the same */
    return NB_OK;
}

nb_status nb_pretokenizer_new_from(const nb_str *expressions, size_t count, nb_pretokenizer **out, nb_error *err)
{
    *out = NULL;
    if (count > MAX_STAGES)
        return nb_fail(err, NB_ERR_LIMIT, "pre-tokenizer: %zu expressions, more than %d", count, MAX_STAGES);
    nb_pretokenizer *p = calloc(1, sizeof *p);
    if (!p)
        return nb_fail_memory(err, "pre-tokenizer", sizeof *p);
    p->family = &p->own;
    nb_status status = NB_OK;
    for (size_t i = 0; i < count && status == NB_OK; i++) {
        char *text = memchr(expressions[i].p, 0, expressions[i].n) ? NULL : strndup(expressions[i].p, expressions[i].n);
        if (!text)
            status = nb_fail(err, NB_ERR_FORMAT, "pre-tokenizer: expression %zu holds a zero byte", i + 1);
        p->own.expression[i] = ""; /* its text is not needed once it is compiled */
        if (status == NB_OK)
            status = compile("of the file", text, &p->code[i], err);
        free(text);
    }
    if (status == NB_ERR_INTERNAL)
        status = nb_fail_prefix(err, NB_ERR_FORMAT, "the file");
    if (status != NB_OK) {
        nb_pretokenizer_free(p);
        return status;
    }
    *out = p;
    return NB_OK;
}

nb_status nb_pretokenizer_new(nb_str name, nb_pretokenizer **out, nb_error *err)
{
    int row = find_row(name);
    *out = NULL;
    if (row < 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "pre-tokenizer '%.*s' is not known; give one that cuts text the same way with --pre NAME "
                       "(default, gpt-2, llama-bpe, qwen2, smollm, ...)",
                       NB_STR_ARG(name));
    nb_pretokenizer *p = calloc(1, sizeof *p);
    if (!p)
        return nb_fail_memory(err, "pre-tokenizer", sizeof *p);
    p->family = &families[rows[row].family];
    for (int i = 0; i < MAX_STAGES && p->family->expression[i]; i++) {
        const char *expression = p->family->expression[i];
        nb_status status = expression[0] == '@' ? NB_OK : compile(row_names[row], expression, &p->code[i], err);
        if (status != NB_OK) {
            nb_pretokenizer_free(p);
            return status;
        }
    }
    *out = p;
    return NB_OK;
}

void nb_pretokenizer_free(nb_pretokenizer *p)
{
    if (!p)
        return;
    for (int i = 0; i < MAX_STAGES; i++)
        pcre2_code_free(p->code[i]);
    free(p);
}

nb_scan_fn *nb_pretokenizer_scan(const nb_pretokenizer *p) { return p->family->scan; }

void nb_words_free(nb_words *w)
{
    nb_grown_free(&w->memory);
    *w = (nb_words){0};
}

static bool add_end(nb_words *w, size_t end)
{
    if (!nb_grown_reserve(&w->memory, w->count + 1, sizeof *w->end))
        return false;
    w->end = w->memory.p;
    w->end[w->count++] = (uint32_t)end;
    return true;
}

/* ---- matching: what one split needs ---- */
typedef struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* made when the 32 KiB of the machine stack were not enough */
} matcher;

static void matcher_free(matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
}

static bool matcher_init(matcher *m)
{
    *m = (matcher){.data = pcre2_match_data_create(1, NULL), .context = pcre2_match_context_create(NULL)};
    if (!m->data || !m->context) {
        matcher_free(m);
        return false;
    }
    pcre2_set_heap_limit(m->context, 1u << 20); /* KiB */
    return true;
}

/* The next match at or after `from`: 1 found, 0 none, below 0 PCRE2's error. What overflows the small JIT stack is tried
 * again with a large one, and what fails there by the interpreter, which works on the heap. */
static int next_match(matcher *m, const pcre2_code *code, nb_str s, size_t from)
{
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = pcre2_match(code, (PCRE2_SPTR)s.p, s.n, from, options, m->data, m->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
        m->stack = pcre2_jit_stack_create(1u << 16, 1u << 28, NULL);
        if (m->stack)
            pcre2_jit_stack_assign(m->context, NULL, m->stack);
        rc = pcre2_match(code, (PCRE2_SPTR)s.p, s.n, from, options, m->data, m->context);
    }
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        rc = pcre2_match(code, (PCRE2_SPTR)s.p, s.n, from, options | PCRE2_NO_JIT, m->data, m->context);
    return rc >= 0 ? 1 : rc == PCRE2_ERROR_NOMATCH ? 0 : rc;
}

static nb_status split_by_code(matcher *m, const pcre2_code *code, nb_str piece, size_t base, nb_words *out,
                               nb_error *err)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
    size_t done = 0;
    while (done < piece.n) {
        int found = next_match(m, code, piece, done);
        if (found < 0)
            return nb_fail(err, NB_ERR_LIMIT,
                           "text: its pre-tokenizer gave up at byte %zu (PCRE2 error %d); cut the text there",
                           base + done, found);
        size_t begin = found ? at[0] : piece.n, end = found ? at[1] : piece.n;
        if ((begin > done && !add_end(out, base + begin)) || (end > begin && !add_end(out, base + end)))
            return nb_fail_memory(err, "words", out->count * 2 * sizeof(uint32_t));
        done = end;
    }
    return NB_OK;
}

/* ---- runs of numbers in threes from the right ---- */

/* \w as the Oniguruma of these models' tokenizers has it: of other numbers only those of Latin-1 */
static bool word_char(const unsigned char *s, size_t n)
{
    uint32_t cp = 0;
    if (!nb_utf8_decode(s, n, &cp))
        return false;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC ||
           (c == UTF8PROC_CATEGORY_NO && cp < 256);
}

static size_t digit_at(nb_str s, size_t i, bool decimal)
{
    uint32_t cp = 0;
    size_t step = i < s.n ? nb_utf8_decode((const unsigned char *)s.p + i, s.n - i, &cp) : 0;
    if (decimal)
        return step && utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND ? step : 0;
    return step && nb_char_class_of(cp) == NB_CHAR_NUMBER ? step : 0;
}

/* @digits: every run of \p{N}; @digits-of-words: runs of \d with no word character after them */
static bool split_digits(nb_str piece, size_t base, bool of_words, nb_words *out)
{
    size_t done = 0;
    for (size_t i = 0, step; i < piece.n;) {
        size_t begin = i, digits = 0;
        while ((step = digit_at(piece, i, of_words)) > 0) {
            i += step;
            digits++;
        }
        if (digits == 0) {
            i++;
            continue;
        }
        if (of_words && i < piece.n && word_char((const unsigned char *)piece.p + i, piece.n - i))
            continue;
        if (begin > done && !add_end(out, base + begin))
            return false;
        for (size_t at = begin; digits > 0; digits--) {
            at += digit_at(piece, at, of_words);
            if (digits % 3 == 1 && !add_end(out, base + at))
                return false;
        }
        done = i;
    }
    return done == piece.n || add_end(out, base + piece.n);
}

static nb_status split_stage(const nb_pretokenizer *p, int stage, matcher *m, nb_str text, const nb_words *in,
                             nb_words *out, nb_error *err)
{
    out->count = 0;
    for (size_t i = 0, begin = 0; i < in->count; begin = in->end[i++]) {
        nb_str piece = {text.p + begin, in->end[i] - begin};
        if (p->code[stage])
            NB_TRY(split_by_code(m, p->code[stage], piece, begin, out, err));
        else if (!split_digits(piece, begin, p->family->expression[stage][7] == '-', out))
            return nb_fail_memory(err, "words", out->count * 2 * sizeof(uint32_t));
    }
    return NB_OK;
}

/* PCRE2 wants UTF-8: text that is not gets a copy in which each stray byte is U+001A, which is in no class. */
static bool make_valid(nb_str *text, char **copy)
{
    const unsigned char *s = (const unsigned char *)text->p;
    uint32_t cp;
    *copy = NULL;
    for (size_t i = 0, step; i < text->n; i += step ? step : 1) {
        while (i < text->n && s[i] < 128)
            i++;
        step = i < text->n ? nb_utf8_decode(s + i, text->n - i, &cp) : 1;
        if (step)
            continue;
        if (!*copy) {
            *copy = malloc(text->n);
            if (!*copy)
                return false;
            memcpy(*copy, text->p, text->n);
            text->p = *copy;
        }
        (*copy)[i] = 0x1A;
    }
    return true;
}

nb_status nb_pretokenizer_split(const nb_pretokenizer *p, nb_str text, nb_words *words, nb_error *err)
{
    nb_words other = {0};
    matcher m;
    char *copy = NULL;
    words->count = 0;
    if (text.n == 0)
        return NB_OK;
    if (text.n > INT32_MAX)
        return nb_fail(err, NB_ERR_LIMIT, "text: %zu bytes, more than the %d that can be tokenized at once", text.n,
                       INT32_MAX);
    if (!matcher_init(&m))
        return nb_fail_memory(err, "pre-tokenizer", sizeof m);
    nb_status status = NB_OK;
    if (!make_valid(&text, &copy) || !add_end(words, text.n))
        status = nb_fail_memory(err, "pre-tokenizer", text.n);
    for (int stage = 0; status == NB_OK && stage < MAX_STAGES && p->family->expression[stage]; stage++) {
        status = split_stage(p, stage, &m, text, words, &other, err);
        nb_words swap = *words;
        *words = other;
        other = swap;
    }
    nb_words_free(&other);
    matcher_free(&m);
    free(copy);
    return status;
}
