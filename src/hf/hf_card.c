/* general.*: what the directory knows about the model: its name, its size, the front matter of its README.md. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "hf/hf_internal.h"

/* ---- name and size ---- */

/* "Qwen2.5-0.5B-instruct" as "Qwen2.5 0.5B Instruct": words in lower case get a capital, numbers stay */
static void put_title(nb_hf *h, const char *key, nb_str folder)
{
    nb_buf b = {0};
    bool start = true, lower = true;
    for (size_t i = 0; i < folder.n; i++) {
        char c = folder.p[i] == '-' ? ' ' : folder.p[i];
        if (start) {
            lower = true;
            for (size_t k = i; k < folder.n && folder.p[k] != '-' && folder.p[k] != ' '; k++)
                lower = lower && !isupper((unsigned char)folder.p[k]);
            bool version = c == 'v' && i + 1 < folder.n && isdigit((unsigned char)folder.p[i + 1]);
            c = (char)(lower && !version ? toupper((unsigned char)c) : c);
        }
        start = c == ' ';
        nb_buf_char(&b, c);
    }
    nb_hf_put_str(h, key, nb_buf_view(&b));
    h->failed = h->failed || b.failed;
    nb_buf_free(&b);
}

/* "owner/model" as config.json remembers it, else the folder's name */
static void put_name(nb_hf *h, nb_str folder)
{
    const nb_node *n = nb_node_get_kind(h->config.root, "_name_or_path", '"');
    nb_str name = n ? n->str : NB_STR("");
    const char *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
    nb_str model = {slash ? slash + 1 : name.p, slash ? name.n - (size_t)(slash + 1 - name.p) : name.n};
    if (!slash || slash == name.p || name.p[0] == '.' || model.n == 0 || memchr(model.p, '/', model.n)) {
        put_title(h, "general.name", folder);
        return;
    }
    put_title(h, "general.name", model);
    put_title(h, "general.organization", (nb_str){name.p, (size_t)(slash - name.p)});
}

static void put_size(nb_hf *h)
{
    static const struct {
        double above, scale;
        char letter;
    } units[] = {{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {0, 1e-3, 'K'}};
    double values = 0;
    char text[64];
    for (size_t i = 0; i < h->source.tensor_count; i++)
        values += (double)nb_source_rows(&h->tensors[i]) * (double)h->tensors[i].dims[0];
    int u = 0;
    while (values <= units[u].above)
        u++;
    double scaled = values * units[u].scale;
    int digits = scaled < 9.5 ? 1 : 0;
    digits += scaled < 0.5;
    snprintf(text, sizeof text, "%.*f%c", digits, scaled, units[u].letter);
    nb_hf_put_str(h, "general.size_label", nb_str_of(text));
}

/* ---- the front matter: lines of YAML, of which only "key: value" and lists of plain words are read ---- */

static nb_str trim(nb_str s)
{
    while (s.n && strchr(" \t\r", s.p[0]))
        s = (nb_str){s.p + 1, s.n - 1};
    while (s.n && strchr(" \t\r", s.p[s.n - 1]))
        s.n--;
    if (s.n >= 2 && (s.p[0] == '"' || s.p[0] == '\'') && s.p[s.n - 1] == s.p[0])
        s = (nb_str){s.p + 1, s.n - 2};
    return s;
}

static nb_str next_line(nb_str *text)
{
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    nb_str line = {text->p, end ? (size_t)(end - text->p) : text->n};
    size_t step = line.n + (end != NULL);
    *text = (nb_str){text->p + step, text->n - step};
    return line;
}

enum { LIST = 64 };

/* the values of a key: one on its line, or the "- value" lines that follow */
static size_t read_list(nb_str card, const char *key, nb_str list[LIST])
{
    size_t n = 0, length = strlen(key);
    while (card.n) {
        nb_str line = next_line(&card);
        if (!nb_str_starts(line, nb_str_of(key)) || line.n <= length || line.p[length] != ':')
            continue;
        nb_str value = trim((nb_str){line.p + length + 1, line.n - length - 1});
        if (value.n && !strchr("[{|>&*", value.p[0])) {
            list[0] = value;
            return 1;
        }
        while (card.n && !value.n && n < LIST) {
            nb_str item = trim(next_line(&card));
            if (item.n < 3 || item.p[0] != '-' || item.p[1] != ' ')
                break;
            list[n++] = trim((nb_str){item.p + 2, item.n - 2});
        }
        return n;
    }
    return 0;
}

static nb_str front_matter(nb_str text)
{
    if (!nb_str_eqz(trim(next_line(&text)), "---"))
        return NB_STR("");
    nb_str all = text;
    while (text.n) {
        const char *at = text.p;
        if (nb_str_eqz(trim(next_line(&text)), "---"))
            return (nb_str){all.p, (size_t)(at - all.p)};
    }
    return NB_STR("");
}

static void put_card(nb_hf *h, nb_str card)
{
    static const char *const words[][2] = {{"license", "general.license"},
                                           {"license_name", "general.license.name"},
                                           {"license_link", "general.license.link"}};
    nb_str list[LIST];
    size_t n;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (read_list(card, words[i][0], list) == 1)
            nb_hf_put_str(h, words[i][1], list[0]);
    n = read_list(card, "tags", list);
    if (n < LIST && read_list(card, "pipeline_tag", list + n) == 1)
        n++;
    if (n)
        nb_hf_put_strings(h, "general.tags", list, n);
    n = read_list(card, "language", list);
    if (n)
        nb_hf_put_strings(h, "general.languages", list, n);
}

/* A README that cannot be read is no reason not to convert. */
static void read_card(nb_hf *h)
{
    char path[PATH_MAX];
    nb_buf text = {0};
    int n = snprintf(path, sizeof path, "%s/README.md", h->dir);
    if (n > 0 && (size_t)n < sizeof path && nb_file_read(path, 1 << 20, &text, NULL) == NB_OK)
        put_card(h, front_matter(nb_buf_view(&text)));
    nb_buf_free(&text);
}

/* ---- all of it ---- */

/* of the first matrix, as converters guess it: 0 F32, 1 F16, 32 BF16 */
static uint32_t file_type(const nb_hf *h)
{
    for (size_t i = 0; i < h->source.tensor_count; i++)
        if (h->tensors[i].n_dims > 1 && h->tensors[i].type->id != NB_TYPE_F32)
            return h->tensors[i].type->id == NB_TYPE_F16 ? 1 : 32;
    return 0;
}

nb_status nb_hf_card(nb_hf *h, nb_error *err)
{
    char *full = realpath(h->dir, NULL);
    if (!full)
        return nb_fail(err, NB_ERR_IO, "%s: cannot be looked up any more", h->dir);
    const char *slash = strrchr(full, '/');
    nb_hf_put_str(h, "general.type", NB_STR("model"));
    put_name(h, nb_str_of(slash ? slash + 1 : full));
    put_size(h);
    read_card(h);
    nb_hf_put_u32(h, "general.file_type", file_type(h));
    nb_hf_put_u32(h, "general.quantization_version", 2);
    free(full);
    return NB_OK;
}
