/* nibble tokenize MODEL [TEXT|-]: what ids a model's tokenizer gives a text. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "convert/open.h"
#include "engine/vocab.h"

typedef struct tokenize_options {
    bool ids, pieces, special, json;
    const char *pre;
} tokenize_options;

static void write_json(const nb_tokenizer *t, const nb_ids *ids, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "count", ids->count);
    nb_json_key(&j, "ids");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < ids->count; i++)
        nb_json_int(&j, ids->id[i]);
    nb_json_close(&j, ']');
    nb_json_key(&j, "pieces");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < ids->count; i++)
        nb_json_str(&j, nb_tokenizer_piece(t, ids->id[i]));
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}

/* a piece on one line: what would break the line is escaped */
static void write_piece(nb_str s, nb_buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\n')
            nb_buf_z(out, "\\n");
        else if (c == '\r')
            nb_buf_z(out, "\\r");
        else if (c == '\t')
            nb_buf_z(out, "\\t");
        else if (c < 0x20 || c == 0x7F)
            nb_buf_printf(out, "\\x%02X", c);
        else
            nb_buf_char(out, (char)c);
    }
}

static void write_lines(const nb_tokenizer *t, const nb_ids *ids, const tokenize_options *o, nb_buf *out)
{
    if (o->ids && !o->pieces) { /* one line that `logits --ids` takes */
        for (size_t i = 0; i < ids->count; i++)
            nb_buf_printf(out, "%s%d", i ? "," : "", ids->id[i]);
        nb_buf_char(out, '\n');
        return;
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (o->ids || !o->pieces)
            nb_buf_printf(out, "%6d  ", ids->id[i]);
        write_piece(nb_tokenizer_piece(t, ids->id[i]), out);
        nb_buf_char(out, '\n');
    }
}

static nb_status tokenize(const char *path, nb_str text, const tokenize_options *o, nb_buf *out, nb_error *err)
{
    nb_gguf *g = NULL;
    nb_tokenizer *t = NULL;
    nb_ids ids = {0};
    unsigned flags = o->special ? NB_ENCODE_ADD_SPECIAL | NB_ENCODE_PARSE_SPECIAL : NB_ENCODE_PLAIN;
    nb_status status = nb_gguf_open_model(path, 0, &g, err);
    if (status == NB_OK)
        status = nb_tokenizer_from_gguf(g, o->pre, &t, err);
    if (status == NB_OK)
        status = nb_tokenizer_encode(t, text, flags, &ids, err);
    if (status == NB_OK) {
        o->json ? write_json(t, &ids, out) : write_lines(t, &ids, o, out);
        if (out->failed)
            status = nb_fail_memory(err, "output", out->len);
    }
    nb_ids_free(&ids);
    nb_tokenizer_free(t);
    nb_gguf_close(g);
    return status;
}

int nb_cmd_tokenize(int argc, char **argv)
{
    tokenize_options o = {.special = true};
    const nb_option options[] = {
        {"ids", 0, NB_OPTION_FLAG, &o.ids, NULL, "print the ids alone, with commas between them"},
        {"pieces", 0, NB_OPTION_FLAG, &o.pieces, NULL, "print the pieces alone, one a line"},
        {"special", 0, NB_OPTION_FLAG, &o.special, NULL,
         "add BOS and the like, and read control tokens in the text (default)"},
        {"json", 0, NB_OPTION_FLAG, &o.json, NULL, "print one JSON object"},
        {"pre", 0, NB_OPTION_STRING, &o.pre, "NAME", "cut text as this pre-tokenizer does, whatever the file says"},
        {"", 0, NB_OPTION_FLAG, NULL, NULL, NULL},
    };
    nb_error err = {0};
    nb_buf text = {0}, out = {0};
    int code = nb_options_parse("tokenize", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc < 2 || argc > 3)
        return nb_report_usage("tokenize", argc < 2 ? "which MODEL?" : "one TEXT only; put it in quotes");
    nb_status status = NB_OK;
    if (argc == 2 || strcmp(argv[2], "-") == 0)
        status = nb_read_stdin(&text, &err);
    else
        nb_buf_z(&text, argv[2]);
    if (status == NB_OK)
        status = tokenize(argv[1], nb_buf_view(&text), &o, &out, &err);
    if (status == NB_OK)
        fwrite(out.data, 1, out.len, stdout);
    nb_buf_free(&text);
    nb_buf_free(&out);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
