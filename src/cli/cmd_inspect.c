/* nibble inspect MODEL: what a GGUF file says and holds, or a directory of Hugging Face in GGUF's words. The text is for people, in 80 columns where names allow;
 * --json holds the same for programs. Strings of the file are shown with control bytes escaped. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/team.h"
#include "cli/command.h"
#include "cli/inspect_set.h"
#include "convert/open.h"
#include "format/file_type.h"
#include "format/gguf.h"
#include "format/gguf_check.h"
#include "hf/hf_missing.h"

/* ---- what is counted once, for both outputs ---- */

typedef struct type_total {
    size_t tensors;
    uint64_t values, bytes;
} type_total;

typedef struct inspection {
    const nb_gguf *gguf;
    bool is_directory; /* of Hugging Face: gguf is how it would be run */
    nb_arena arena;
    nb_str arch;
    nb_str *tokens; /* NULL: no vocabulary */
    size_t token_count;
    type_total types[NB_TYPE_LIMIT], all;
    nb_gguf_check *checks; /* one a tensor; NULL: not asked for */
    size_t bad_tensors;
} inspection;

static uint64_t values_of(const nb_gguf_tensor *t) { return t->bytes / t->type->block_bytes * t->type->block_values; }

static double bits_a_weight(const type_total *t) { return t->values ? (double)t->bytes * 8 / (double)t->values : 0; }

static void count(type_total *total, const nb_gguf_tensor *t)
{
    total->tensors++;
    total->values += values_of(t);
    total->bytes += t->bytes;
}

static void survey(inspection *x)
{
    for (size_t i = 0; i < nb_gguf_tensor_count(x->gguf); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x->gguf, i);
        count(&x->types[t->type->id], t);
        count(&x->all, t);
    }
    nb_gguf_get_str(x->gguf, "general.architecture", &x->arch, NULL);
    nb_gguf_get_strings(x->gguf, "tokenizer.ggml.tokens", &x->arena, &x->tokens, &x->token_count, NULL);
}

/* the type with the most bytes that is not listed yet; NULL when all are */
static const nb_type_info *next_type(const inspection *x, bool listed[NB_TYPE_LIMIT])
{
    uint32_t best = NB_TYPE_LIMIT;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        if (x->types[id].tensors && !listed[id] && (best == NB_TYPE_LIMIT || x->types[id].bytes > x->types[best].bytes))
            best = id;
    if (best == NB_TYPE_LIMIT)
        return NULL;
    listed[best] = true;
    return nb_type_get(best);
}

/* ARCH.KEY, NULL when absent */
static const nb_gguf_value *find_of_arch(const inspection *x, const char *key)
{
    char full[256];
    int n = snprintf(full, sizeof full, "%.*s.%s", NB_STR_ARG(x->arch), key);
    return n < (int)sizeof full ? nb_gguf_find(x->gguf, full) : NULL;
}

static const char *file_type(const inspection *x)
{
    uint64_t id;
    return nb_gguf_get_u64(x->gguf, "general.file_type", &id, NULL) == NB_OK ? nb_file_type_name(id) : NULL;
}

/* ---- --check: every tensor decoded, by the whole team ---- */

typedef struct check_work {
    inspection *x;
    nb_progress *progress;
    atomic_size_t next;
    atomic_ullong done; /* bytes */
} check_work;

static void check_member(void *context, int member, int members)
{
    check_work *work = context;
    (void)members;
    for (size_t i; (i = atomic_fetch_add(&work->next, 1)) < nb_gguf_tensor_count(work->x->gguf);) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(work->x->gguf, i);
        nb_gguf_check_tensor(t, &work->x->checks[i]);
        uint64_t done = atomic_fetch_add(&work->done, t->bytes) + t->bytes;
        if (member == 0)
            nb_progress_at(work->progress, done);
    }
}

static nb_status check_tensors(inspection *x, nb_error *err)
{
    size_t n = nb_gguf_tensor_count(x->gguf);
    nb_team *team;
    x->checks = NB_ARRAY(&x->arena, nb_gguf_check, n);
    if (!x->checks)
        return nb_fail_memory(err, "the checks", n * sizeof *x->checks);
    NB_TRY(nb_team_new(0, false, &team, err));
    check_work work = {.x = x};
    if (nb_stderr_is_terminal())
        work.progress = nb_progress_start("checking", x->all.bytes, "B");
    nb_team_run(team, check_member, &work);
    nb_progress_at(work.progress, x->all.bytes);
    nb_progress_end(work.progress, true);
    nb_team_free(team);
    for (size_t i = 0; i < n; i++)
        x->bad_tensors += x->checks[i].bad > 0;
    return NB_OK;
}

/* ---- text: pieces ---- */

/* bytes of the valid and printable UTF-8 sequence at s; 0 when there is none */
static size_t printable(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    size_t length = s[0] >= 0xf0 && s[0] < 0xf5   ? 4
                    : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                    : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                                                  : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    bool control = s[0] == 0xc2 && s[1] < 0xa0;
    bool steers = s[0] == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) || (s[1] == 0x81 && s[2] >= 0xa6)) &&
                  length == 3 && s[2] <= 0xae; /* would turn the text around */
    return overlong || outside || control || steers ? 0 : length;
}

/* One step of a string: the bytes it took, and in piece what to print for them. */
static size_t escape(const unsigned char *s, size_t n, bool lines, char piece[8])
{
    size_t length = printable(s, n);
    if (length > 0 || (lines && (*s == '\n' || *s == '\t'))) {
        length = length ? length : 1;
        memcpy(piece, s, length);
        piece[length] = '\0';
        return length;
    }
    const char *known = *s == '\n' ? "\\n" : *s == '\r' ? "\\r" : *s == '\t' ? "\\t" : NULL;
    if (known)
        memcpy(piece, known, 3);
    else
        snprintf(piece, 8, "\\x%02x", *s);
    return 1;
}

/* Adds s, cut to `room` columns (a code point counts as one) with "..." at the cut; returns the columns used. */
static size_t add_cut(nb_buf *b, nb_str s, size_t room)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t used = 0, mark = b->len;
    char piece[8];
    for (size_t i = 0; i < s.n;) {
        i += escape(p + i, s.n - i, false, piece);
        size_t columns = piece[0] & 0x80 ? 1 : strlen(piece);
        if (used + columns + 3 <= room)
            mark = b->len + strlen(piece);
        if (used + columns > room) {
            b->len = nb_min_size(mark, b->len);
            nb_buf_z(b, "...");
            return room;
        }
        nb_buf_z(b, piece);
        used += columns;
    }
    return used;
}

/* whole numbers of sensible size in full: 10000, not 1e+04 */
static void format_real(double x, bool is_float, char text[32])
{
    if (x > -1e9 && x < 1e9 && x == (double)(int64_t)x)
        snprintf(text, 32, "%.0f", x);
    else if (is_float)
        nb_format_float((float)x, text);
    else
        nb_format_double(x, text);
}

static void add_scalar(nb_buf *b, const nb_gguf_value *v, size_t i)
{
    char text[32];
    if (v->element == NB_GGUF_F32 || v->element == NB_GGUF_F64)
        format_real(nb_gguf_elem_f64(v, i), v->element == NB_GGUF_F32, text);
    else if (v->element == NB_GGUF_BOOL)
        snprintf(text, sizeof text, "%s", nb_gguf_elem_u64(v, i) ? "true" : "false");
    else if (v->element == NB_GGUF_U64)
        snprintf(text, sizeof text, "%" PRIu64, nb_gguf_elem_u64(v, i));
    else
        snprintf(text, sizeof text, "%" PRId64, nb_gguf_elem_i64(v, i));
    nb_buf_z(b, text);
}

/* the string at *at of a string array; moves *at behind it */
static nb_str next_string(const nb_gguf_value *v, size_t *at)
{
    uint64_t n;
    memcpy(&n, v->data + *at, sizeof n);
    nb_str s = {(const char *)v->data + *at + 8, (size_t)n};
    *at += 8 + (size_t)n;
    return s;
}

static void add_array(nb_buf *b, const nb_gguf_value *v, size_t room)
{
    nb_buf piece = {0};
    size_t used = 0, at = 0;
    for (size_t i = 0; i < v->count; i++) {
        nb_buf_clear(&piece);
        if (v->element == NB_GGUF_STRING)
            add_cut(&piece, next_string(v, &at), 24);
        else
            add_scalar(&piece, v, i);
        if (used + piece.len + (i + 1 < v->count ? 5 : 0) > room) {
            nb_buf_z(b, "...");
            break;
        }
        nb_buf_str(b, nb_buf_view(&piece));
        nb_buf_z(b, i + 1 < v->count ? ", " : "");
        used += piece.len + 2;
    }
    nb_buf_free(&piece);
}

static void add_value(nb_buf *b, const nb_gguf_value *v, size_t room)
{
    if (v->kind == NB_GGUF_STRING && v->bytes == 0)
        nb_buf_z(b, "\"\"");
    else if (v->kind == NB_GGUF_STRING)
        add_cut(b, (nb_str){(const char *)v->data, v->bytes}, room);
    else if (v->kind == NB_GGUF_ARRAY)
        add_array(b, v, room);
    else
        add_scalar(b, v, 0);
}

/* "134.5 M": values, not bytes */
static void format_count(uint64_t n, char text[24])
{
    static const char units[] = " kMBT";
    double value = (double)n;
    int unit = 0;
    for (; value >= 999.5 && unit < 4; unit++)
        value /= 1000;
    if (unit == 0)
        snprintf(text, 24, "%" PRIu64, n);
    else
        snprintf(text, 24, "%.*f %c", value >= 99.95 ? 1 : 2, value, units[unit]);
}

static void heading(const char *text)
{
    bool bold = nb_color_wanted(nb_stdout_is_terminal());
    printf("\n%s%s%s\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
}

/* ---- text: sections ---- */

enum { LABEL = 15 }; /* columns of a label and the space after it */

static void print_labeled(const char *label, const nb_buf *value)
{
    printf("  %-*s %s\n", LABEL, label, value->data ? value->data : "");
}

static void print_value_row(const char *label, const nb_gguf_value *v)
{
    nb_buf b = {0};
    if (!v)
        return;
    add_value(&b, v, 80 - LABEL - 3);
    print_labeled(label, &b);
    nb_buf_free(&b);
}

static void print_model(const inspection *x)
{
    static const struct {
        const char *label, *key;
    } rows[] = {
        {"context", "context_length"},
        {"layers", "block_count"},
        {"embedding", "embedding_length"},
        {"heads", "attention.head_count"},
        {"kv heads", "attention.head_count_kv"},
        {"feed forward", "feed_forward_length"},
        {"experts", "expert_count"},
        {"experts used", "expert_used_count"},
        {"rope base", "rope.freq_base"},
    };
    char amount[24];
    heading("model");
    print_value_row("name", nb_gguf_find(x->gguf, "general.name"));
    print_value_row("architecture", nb_gguf_find(x->gguf, "general.architecture"));
    format_count(x->all.values, amount);
    if (x->all.values < 1000)
        printf("  %-*s %s\n", LABEL, "parameters", amount);
    else
        printf("  %-*s %s (%" PRIu64 ")\n", LABEL, "parameters", amount, x->all.values);
    if (file_type(x))
        printf("  %-*s %s\n", LABEL, "file type", file_type(x));
    if (x->all.values)
        printf("  %-*s %.2f\n", LABEL, "bits a weight", bits_a_weight(&x->all));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        print_value_row(rows[i].label, find_of_arch(x, rows[i].key));
    print_value_row("licence", nb_gguf_find(x->gguf, "general.license"));
}

static const struct special_row {
    const char *name, *key;
} specials[] = {
    {"bos", "tokenizer.ggml.bos_token_id"},
    {"eos", "tokenizer.ggml.eos_token_id"},
    {"eot", "tokenizer.ggml.eot_token_id"},
    {"eom", "tokenizer.ggml.eom_token_id"},
    {"unknown", "tokenizer.ggml.unknown_token_id"},
    {"separator", "tokenizer.ggml.seperator_token_id"}, /* spelt so in real files */
    {"padding", "tokenizer.ggml.padding_token_id"},
    {"mask", "tokenizer.ggml.mask_token_id"},
};

static void print_tokenizer(const inspection *x)
{
    const nb_gguf_value *merges = nb_gguf_find(x->gguf, "tokenizer.ggml.merges");
    nb_buf b = {0};
    uint64_t id;
    if (!x->tokens && !nb_gguf_find(x->gguf, "tokenizer.ggml.model"))
        return;
    heading("tokenizer");
    print_value_row("model", nb_gguf_find(x->gguf, "tokenizer.ggml.model"));
    print_value_row("pre-tokenizer", nb_gguf_find(x->gguf, "tokenizer.ggml.pre"));
    printf("  %-*s %zu\n", LABEL, "tokens", x->token_count);
    if (merges)
        printf("  %-*s %zu\n", LABEL, "merges", merges->count);
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        if (nb_gguf_get_u64(x->gguf, specials[i].key, &id, NULL) != NB_OK)
            continue;
        nb_buf_clear(&b);
        nb_buf_printf(&b, "%" PRIu64 "  ", id);
        if (id < x->token_count)
            add_cut(&b, x->tokens[id], 48);
        else
            nb_buf_z(&b, "(not in the vocabulary)");
        print_labeled(specials[i].name, &b);
    }
    nb_buf_free(&b);
}

static void print_type_row(const char *name, const type_total *t, uint64_t all_bytes)
{
    char values[24], bytes[24];
    format_count(t->values, values);
    nb_format_bytes(t->bytes, bytes);
    printf("  %-10s %8zu %12s %10s %8.1f %% %15.4g\n", name, t->tensors, values, bytes,
           all_bytes ? (double)t->bytes * 100 / (double)all_bytes : 0, bits_a_weight(t));
}

static void print_types(const inspection *x)
{
    bool listed[NB_TYPE_LIMIT] = {false};
    heading("types");
    printf("  %-10s %8s %12s %10s %10s %15s\n", "type", "tensors", "values", "size", "share", "bits a weight");
    for (const nb_type_info *type; (type = next_type(x, listed));)
        print_type_row(type->name, &x->types[type->id], x->all.bytes);
    print_type_row("all", &x->all, x->all.bytes);
}

static void print_metadata(const inspection *x)
{
    int key_width = 0, width = nb_stdout_is_terminal() ? nb_terminal_width() : 80;
    nb_buf b = {0};
    char kind[48];
    for (size_t i = 0; i < nb_gguf_value_count(x->gguf); i++) {
        int n = (int)nb_gguf_value_at(x->gguf, i)->key.n;
        key_width = n > key_width && n <= 40 ? n : key_width;
    }
    heading("metadata");
    for (size_t i = 0; i < nb_gguf_value_count(x->gguf); i++) {
        const nb_gguf_value *v = nb_gguf_value_at(x->gguf, i);
        if (v->kind == NB_GGUF_ARRAY)
            snprintf(kind, sizeof kind, "%s[%zu]", nb_gguf_kind_name(v->element), v->count);
        else
            snprintf(kind, sizeof kind, "%s", nb_gguf_kind_name(v->kind));
        int taken = 2 + (v->key.n > (size_t)key_width ? (int)v->key.n : key_width) + 2 +
                    (strlen(kind) < 6 ? 6 : (int)strlen(kind)) + 2;
        nb_buf_clear(&b);
        add_value(&b, v, (size_t)(width - taken > 16 ? width - taken : 16));
        printf("  %-*.*s  %-6s  %s\n", key_width, (int)v->key.n, v->key.p, kind, b.data ? b.data : "");
    }
    nb_buf_free(&b);
}

static void format_shape(const nb_gguf_tensor *t, char text[96])
{
    size_t n = 0;
    for (uint32_t i = 0; i < t->n_dims; i++)
        n += (size_t)snprintf(text + n, 96 - n, "%s%" PRIu64, i ? " x " : "", t->dims[i]);
}

static void print_tensors(const inspection *x)
{
    int name_width = 4, shape_width = 5;
    char shape[96], bytes[24];
    for (size_t i = 0; i < nb_gguf_tensor_count(x->gguf); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x->gguf, i);
        format_shape(t, shape);
        name_width = (int)t->name.n > name_width ? (int)t->name.n : name_width;
        shape_width = (int)strlen(shape) > shape_width ? (int)strlen(shape) : shape_width;
    }
    heading("tensors");
    printf("  %-*s  %-7s  %-*s  %9s  %12s\n", name_width, "name", "type", shape_width, "shape", "size", "offset");
    for (size_t i = 0; i < nb_gguf_tensor_count(x->gguf); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x->gguf, i);
        format_shape(t, shape);
        nb_format_bytes(t->bytes, bytes);
        printf("  %-*.*s  %-7s  %-*s  %9s  %12" PRIu64, name_width, (int)t->name.n, t->name.p, t->type->name,
               shape_width, shape, bytes, t->offset);
        if (nb_gguf_shards(x->gguf) > 1)
            printf("  shard %d", t->shard + 1);
        putchar('\n');
    }
}

static void print_template(const inspection *x)
{
    nb_str text;
    nb_buf b = {0};
    char piece[8];
    if (nb_gguf_get_str(x->gguf, "tokenizer.chat_template", &text, NULL) != NB_OK)
        return;
    const unsigned char *p = (const unsigned char *)text.p;
    for (size_t i = 0; i < text.n;) {
        i += escape(p + i, text.n - i, true, piece);
        nb_buf_z(&b, piece);
        if (piece[0] == '\n' && i < text.n)
            nb_buf_z(&b, "  ");
    }
    heading("template");
    printf("  %s%s", b.data ? b.data : "", b.len && b.data[b.len - 1] == '\n' ? "" : "\n");
    nb_buf_free(&b);
}

static void print_check(const inspection *x)
{
    size_t decoded = 0, n = nb_gguf_tensor_count(x->gguf);
    heading("check");
    for (size_t i = 0; i < n; i++) {
        const nb_gguf_check *c = &x->checks[i];
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x->gguf, i);
        decoded += c->decoded;
        if (c->bad)
            printf("  %.*s: %" PRIu64 " value%s not finite; the first, %g, at row %" PRIu64 ", column %" PRIu64
                   " (byte %" PRIu64 ")\n",
                   NB_STR_ARG(t->name), c->bad, c->bad == 1 ? " is" : "s are", (double)c->value, c->row, c->column,
                   c->offset);
    }
    printf("  %zu of %zu tensors decoded", decoded, n);
    if (decoded < n)
        printf(" (the others hold integers or a type without a decoder)");
    printf("%s\n", x->bad_tensors ? "" : ", all values are finite");
}

/* of a directory: its tensors alone, which lie in files of many kinds */
static uint64_t bytes_of(const inspection *x)
{
    return x->is_directory ? x->all.bytes : nb_gguf_file_bytes(x->gguf);
}

static void print_text(const inspection *x, bool tensors)
{
    char bytes[24];
    nb_format_bytes(bytes_of(x), bytes);
    printf("%s\n", nb_gguf_path(x->gguf));
    if (x->is_directory)
        printf("a directory of Hugging Face, as it runs");
    else
        printf("GGUF version %u", nb_gguf_version(x->gguf));
    printf(", %s, %zu tensors, %zu metadata values", bytes, nb_gguf_tensor_count(x->gguf),
           nb_gguf_value_count(x->gguf));
    if (nb_gguf_shards(x->gguf) > 1)
        printf(", %d shards", nb_gguf_shards(x->gguf));
    putchar('\n');
    print_model(x);
    print_tokenizer(x);
    print_types(x);
    print_metadata(x);
    if (tensors)
        print_tensors(x);
    print_template(x);
    if (x->checks)
        print_check(x);
}

/* ---- JSON ---- */

static void json_scalar(nb_json *j, const nb_gguf_value *v, size_t i)
{
    if (v->element == NB_GGUF_F32)
        nb_json_f32(j, (float)nb_gguf_elem_f64(v, i));
    else if (v->element == NB_GGUF_F64)
        nb_json_num(j, nb_gguf_elem_f64(v, i));
    else if (v->element == NB_GGUF_BOOL)
        nb_json_bool(j, nb_gguf_elem_u64(v, i) != 0);
    else if (v->element == NB_GGUF_U64)
        nb_json_uint(j, nb_gguf_elem_u64(v, i));
    else
        nb_json_int(j, nb_gguf_elem_i64(v, i));
}

/* an array's first elements: all of a short one */
static void json_elements(nb_json *j, const nb_gguf_value *v)
{
    enum { SHOWN = 8, SHORT = 256 };
    size_t shown = v->element == NB_GGUF_STRING || v->count > SHORT ? nb_min_size(v->count, SHOWN) : v->count, at = 0;
    nb_json_open(j, '[');
    for (size_t i = 0; i < shown; i++)
        if (v->element == NB_GGUF_STRING)
            nb_json_str(j, next_string(v, &at));
        else
            json_scalar(j, v, i);
    nb_json_close(j, ']');
}

static void json_metadata(nb_json *j, const inspection *x)
{
    nb_json_key(j, "metadata");
    nb_json_open(j, '{');
    for (size_t i = 0; i < nb_gguf_value_count(x->gguf); i++) {
        const nb_gguf_value *v = nb_gguf_value_at(x->gguf, i);
        nb_json_key_str(j, v->key);
        nb_json_open(j, '{');
        nb_json_put_z(j, "type", nb_gguf_kind_name(v->kind));
        if (v->kind == NB_GGUF_ARRAY) {
            nb_json_put_z(j, "element", nb_gguf_kind_name(v->element));
            nb_json_put_uint(j, "count", v->count);
        }
        nb_json_key(j, v->kind == NB_GGUF_ARRAY ? "first" : "value");
        if (v->kind == NB_GGUF_ARRAY)
            json_elements(j, v);
        else if (v->kind == NB_GGUF_STRING)
            nb_json_str(j, (nb_str){(const char *)v->data, v->bytes});
        else
            json_scalar(j, v, 0);
        nb_json_close(j, '}');
    }
    nb_json_close(j, '}');
}

/* the string of a key, null without one */
static void json_key_value(nb_json *j, const char *name, const nb_gguf *g, const char *key)
{
    nb_str s;
    nb_json_key(j, name);
    if (nb_gguf_get_str(g, key, &s, NULL) == NB_OK)
        nb_json_str(j, s);
    else
        nb_json_null(j);
}

static void json_file(nb_json *j, const inspection *x)
{
    nb_json_put_z(j, "file", nb_gguf_path(x->gguf));
    nb_json_put_uint(j, "version", nb_gguf_version(x->gguf));
    nb_json_put_uint(j, "bytes", bytes_of(x));
    nb_json_put_uint(j, "shards", (uint64_t)nb_gguf_shards(x->gguf));
    nb_json_put_uint(j, "alignment", nb_gguf_alignment(x->gguf));
    json_key_value(j, "architecture", x->gguf, "general.architecture");
    json_key_value(j, "name", x->gguf, "general.name");
    nb_json_key(j, "file_type");
    if (file_type(x))
        nb_json_z(j, file_type(x));
    else
        nb_json_null(j);
    nb_json_put_uint(j, "parameters", x->all.values);
    nb_json_put_uint(j, "tensor_count", x->all.tensors);
    nb_json_put_uint(j, "tensor_bytes", x->all.bytes);
    nb_json_put_num(j, "bits_a_weight", bits_a_weight(&x->all));
}

static void json_tokenizer(nb_json *j, const inspection *x)
{
    const nb_gguf_value *merges = nb_gguf_find(x->gguf, "tokenizer.ggml.merges");
    uint64_t id;
    nb_json_key(j, "tokenizer");
    nb_json_open(j, '{');
    json_key_value(j, "model", x->gguf, "tokenizer.ggml.model");
    json_key_value(j, "pre", x->gguf, "tokenizer.ggml.pre");
    nb_json_put_uint(j, "tokens", x->token_count);
    nb_json_put_uint(j, "merges", merges ? merges->count : 0);
    nb_json_key(j, "special");
    nb_json_open(j, '{');
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        if (nb_gguf_get_u64(x->gguf, specials[i].key, &id, NULL) != NB_OK)
            continue;
        nb_json_key(j, specials[i].name);
        nb_json_open(j, '{');
        nb_json_put_uint(j, "id", id);
        nb_json_key(j, "text");
        if (id < x->token_count)
            nb_json_str(j, x->tokens[id]);
        else
            nb_json_null(j);
        nb_json_close(j, '}');
    }
    nb_json_close(j, '}');
    nb_json_close(j, '}');
    json_key_value(j, "template", x->gguf, "tokenizer.chat_template");
}

static void json_types(nb_json *j, const inspection *x)
{
    bool listed[NB_TYPE_LIMIT] = {false};
    nb_json_key(j, "types");
    nb_json_open(j, '[');
    for (const nb_type_info *type; (type = next_type(x, listed));) {
        const type_total *t = &x->types[type->id];
        nb_json_open(j, '{');
        nb_json_put_z(j, "type", type->name);
        nb_json_put_uint(j, "tensors", t->tensors);
        nb_json_put_uint(j, "values", t->values);
        nb_json_put_uint(j, "bytes", t->bytes);
        nb_json_put_num(j, "bits_a_weight", bits_a_weight(t));
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void json_tensors(nb_json *j, const inspection *x)
{
    nb_json_key(j, "tensors");
    nb_json_open(j, '[');
    for (size_t i = 0; i < nb_gguf_tensor_count(x->gguf); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x->gguf, i);
        nb_json_open(j, '{');
        nb_json_key(j, "name");
        nb_json_str(j, t->name);
        nb_json_put_z(j, "type", t->type->name);
        nb_json_key(j, "shape");
        nb_json_open(j, '[');
        for (uint32_t d = 0; d < t->n_dims; d++)
            nb_json_uint(j, t->dims[d]);
        nb_json_close(j, ']');
        nb_json_put_uint(j, "bytes", t->bytes);
        nb_json_put_uint(j, "shard", (uint64_t)t->shard);
        nb_json_put_uint(j, "offset", t->offset);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void json_check(nb_json *j, const inspection *x)
{
    uint64_t decoded = 0;
    nb_json_key(j, "check");
    nb_json_open(j, '{');
    nb_json_key(j, "not_finite");
    nb_json_open(j, '[');
    for (size_t i = 0; i < nb_gguf_tensor_count(x->gguf); i++) {
        const nb_gguf_check *c = &x->checks[i];
        decoded += c->decoded;
        if (!c->bad)
            continue;
        nb_json_open(j, '{');
        nb_json_key(j, "tensor");
        nb_json_str(j, nb_gguf_tensor_at(x->gguf, i)->name);
        nb_json_put_uint(j, "values", c->bad);
        nb_json_put_uint(j, "row", c->row);
        nb_json_put_uint(j, "column", c->column);
        nb_json_put_uint(j, "offset", c->offset);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
    nb_json_put_uint(j, "tensors_decoded", decoded);
    nb_json_close(j, '}');
}

static nb_status print_json(const inspection *x, bool tensors, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    json_file(&j, x);
    json_tokenizer(&j, x);
    json_types(&j, x);
    json_metadata(&j, x);
    if (tensors)
        json_tensors(&j, x);
    if (x->checks)
        json_check(&j, x);
    nb_json_close(&j, '}');
    return nb_print_json(&b, err);
}

/* ---- the command ---- */

static nb_status inspect(const char *path, bool tensors, bool json, bool check, bool *all_finite, nb_error *err)
{
    nb_gguf *g;
    inspection x = {0};
    NB_TRY(nb_gguf_open_model(path, 0, &g, err));
    x.gguf = g;
    x.is_directory = nb_hf_is_directory(path);
    survey(&x);
    nb_status status = check ? check_tensors(&x, err) : NB_OK;
    if (status == NB_OK && json)
        status = print_json(&x, tensors, err);
    else if (status == NB_OK)
        print_text(&x, tensors);
    *all_finite = x.bad_tensors == 0;
    nb_arena_free(&x.arena);
    nb_gguf_close(g);
    return status;
}

int nb_cmd_inspect(int argc, char **argv)
{
    bool tensors = false, json = false, check = false, all_finite = true;
    nb_option_list sets = {0};
    const char *out = NULL;
    const nb_option options[] = {
        {"tensors", 0, NB_OPTION_FLAG, &tensors, NULL, "list the tensors"},
        {"json", 0, NB_OPTION_FLAG, &json, NULL, "print JSON (long arrays cut; tensors with --tensors)"},
        {"check", 0, NB_OPTION_FLAG, &check, NULL, "decode all tensors; values that are not finite are an error"},
        {"set", 0, NB_OPTION_LIST, &sets, "KEY=VALUE", "write a copy with other metadata to -o"},
        {"out", 'o', NB_OPTION_STRING, &out, "FILE", "the copy that --set makes"},
        {.name = ""},
    };
    nb_error err = {0};
    int code = nb_options_parse("inspect", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        code = nb_report_usage("inspect", argc < 2 ? "give a GGUF file or a directory" : "give one model, not %d", argc - 1);
    else if ((sets.count > 0) != (out != NULL))
        code = nb_report_usage("inspect", "--set KEY=VALUE and -o FILE go together");
    else if ((out ? nb_inspect_set(argv[1], out, &sets, &err)
                  : inspect(argv[1], tensors, json, check, &all_finite, &err)) != NB_OK)
        code = nb_report_error(&err);
    else
        code = all_finite ? NB_EXIT_OK : NB_EXIT_FAILED;
    nb_options_free(options);
    return code;
}
