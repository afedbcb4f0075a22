/* nibble run MODEL [PROMPT...]: one answer, or a chat. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/model_options.h"
#include "engine/engine.h"

typedef struct run_options {
    nb_model_options model;
    nb_generate_params generate;
    const char *system;
    nb_option_list stops, biases;
    int64_t predict, seed;
    bool raw, verbose;
} run_options;

typedef struct chat {
    const run_options *options;
    nb_model *model;
    nb_session *session;
    nb_buf prompt, reply;
    nb_chat_message *messages;
    size_t message_count, message_cap;
    nb_arena text; /* of the messages */
} chat;

static nb_status add_message(chat *c, const char *role, nb_str content, nb_error *err)
{
    if (c->message_count == c->message_cap) {
        size_t cap = c->message_cap ? 2 * c->message_cap : 16;
        nb_chat_message *messages = realloc(c->messages, cap * sizeof *messages);
        if (!messages)
            return nb_fail(err, NB_ERR_MEMORY, "out of memory");
        c->messages = messages;
        c->message_cap = cap;
    }
    char *copy = nb_arena_strdup(&c->text, content);
    if (!copy)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    c->messages[c->message_count++] = (nb_chat_message){.role = nb_str_of(role), .content = {copy, content.n}};
    return NB_OK;
}

static int on_text(void *user, const char *text, size_t bytes)
{
    chat *c = user;
    nb_buf_add(&c->reply, text, bytes);
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0)
        return 1;
    return nb_interrupted();
}

/* The prompt's ids. A rendered template that begins with BOS itself gets no second one. */
static nb_status prompt_ids(chat *c, nb_ids *ids, nb_error *err)
{
    bool chatting = !c->options->raw && nb_model_has_chat(c->model);
    nb_buf_clear(&c->prompt);
    if (chatting)
        NB_TRY(nb_model_chat(c->model, c->messages, c->message_count, &c->prompt, err));
    else
        for (size_t i = 0; i < c->message_count; i++)
            nb_buf_str(&c->prompt, c->messages[i].content);
    if (c->prompt.failed)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    bool has_bos = chatting && c->model->bos.n && nb_str_starts(nb_buf_view(&c->prompt), c->model->bos);
    return nb_tokenizer_encode(c->model->tokenizer, nb_buf_view(&c->prompt),
                               (has_bos ? 0u : NB_ENCODE_ADD_SPECIAL) | (chatting ? NB_ENCODE_PARSE_SPECIAL : 0u), ids,
                               err);
}

/* keeps what the session already computed of these ids; at least one is left to compute */
static nb_status reuse_prefix(chat *c, const nb_ids *ids, size_t *from, nb_error *err)
{
    *from = nb_min_size(nb_session_match(c->session, ids->id, ids->count), ids->count - 1);
    if (nb_session_rewind(c->session, *from, err) == NB_OK)
        return NB_OK;
    *from = 0; /* window layers have forgotten the place: compute all of it again */
    return nb_session_rewind(c->session, 0, err);
}

static void print_stats(const nb_generate_stats *s)
{
    static const char *const reasons[] = {"end of reply", "stop string", "token limit", "context full", "stopped"};
    nb_note("prompt: %zu tokens, %.1f ms, %.1f tok/s", s->prompt_tokens, s->prompt_seconds * 1e3,
            s->prompt_seconds > 0 ? (double)s->prompt_tokens / s->prompt_seconds : 0);
    nb_note("reply: %zu tokens, %.1f ms to the first, then %.1f tok/s (%s)", s->tokens, s->first_token_seconds * 1e3,
            s->tokens > 1 && s->seconds > 0 ? (double)(s->tokens - 1) / s->seconds : 0, reasons[s->reason]);
    nb_note("seed: %llu", (unsigned long long)s->seed);
}

/* one answer to the messages so far, streamed to stdout */
static nb_status answer(chat *c, nb_error *err)
{
    nb_ids ids = {0};
    size_t from = 0;
    nb_generate_stats stats = {0};
    nb_generate_params generate = c->options->generate;
    generate.on_text = on_text;
    generate.user = c;
    nb_buf_clear(&c->reply);
    nb_status status = prompt_ids(c, &ids, err);
    if (status == NB_OK && ids.count == 0)
        status = nb_fail(err, NB_ERR_ARGUMENT, "the prompt is empty; say something");
    if (status == NB_OK)
        status = reuse_prefix(c, &ids, &from, err);
    if (status == NB_OK)
        status = nb_generate(c->session, ids.id + from, ids.count - from, &generate, &stats, err);
    nb_ids_free(&ids);
    if (status == NB_OK && c->reply.len && c->reply.data[c->reply.len - 1] != '\n')
        putchar('\n');
    fflush(stdout);
    if (status == NB_OK && stats.reason == NB_STOP_CONTEXT)
        nb_note("the context of %zu tokens is full; --ctx makes it larger", nb_session_capacity(c->session));
    if (status == NB_OK && c->options->verbose)
        print_stats(&stats);
    return status;
}

static int chat_loop(chat *c)
{
    nb_error err;
    char *line = NULL;
    size_t cap = 0;
    nb_note("chat with %s; Ctrl-D or /bye ends it, Ctrl-C stops a reply", nb_gguf_path(c->model->gguf));
    for (;;) {
        fputs(">>> ", stderr);
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0 && nb_interrupted()) {
            clearerr(stdin);
            fputs("\n", stderr);
            continue;
        }
        if (n < 0 || strcmp(line, "/bye\n") == 0)
            break;
        nb_str text = {line, (size_t)n};
        while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
            text.n--;
        if (text.n == 0)
            continue;
        if (add_message(c, "user", text, &err) != NB_OK || answer(c, &err) != NB_OK ||
            add_message(c, "assistant", nb_buf_view(&c->reply), &err) != NB_OK) {
            nb_report_error(&err);
            free(line);
            return NB_EXIT_FAILED;
        }
    }
    free(line);
    return NB_EXIT_OK;
}

/* the words of the command line, after what was piped in */
static nb_status gather_prompt(int argc, char **argv, nb_buf *prompt, nb_error *err)
{
    if (!isatty(0))
        NB_TRY(nb_read_stdin(prompt, err));
    for (int i = 2; i < argc; i++)
        nb_buf_printf(prompt, "%s%s", i > 2 ? " " : prompt->len ? "\n" : "", argv[i]);
    return prompt->failed ? nb_fail(err, NB_ERR_MEMORY, "out of memory") : NB_OK;
}

static nb_status run_chat(chat *c, int argc, char **argv, int *code, nb_error *err)
{
    nb_buf prompt = {0};
    nb_status status = gather_prompt(argc, argv, &prompt, err);
    if (status == NB_OK)
        status = nb_model_open(argv[1], &c->options->model.model, &c->model, err);
    if (status == NB_OK)
        status = nb_session_open(c->model, &c->options->model.session, &c->session, err);
    if (status == NB_OK && c->options->system) {
        if (nb_model_has_chat(c->model) && !c->options->raw)
            status = add_message(c, "system", nb_str_of(c->options->system), err);
        else
            nb_note("--system has no effect: without a chat template the prompt is completed as it is");
    }
    *code = NB_EXIT_OK;
    if (status == NB_OK && argc < 3 && prompt.len == 0 && isatty(0)) {
        *code = chat_loop(c);
    } else if (status == NB_OK) {
        status = add_message(c, "user", nb_buf_view(&prompt), err);
        if (status == NB_OK)
            status = answer(c, err);
    }
    nb_buf_free(&prompt);
    return status;
}

/* "ID=BIAS", "ID+BIAS" or "ID-BIAS" */
static int parse_biases(const run_options *o, nb_logit_bias *biases)
{
    for (size_t i = 0; i < o->biases.count; i++) {
        char *end, *last;
        long id = strtol(o->biases.items[i], &end, 10);
        float bias = strtof(*end == '=' ? end + 1 : end, &last);
        if (end == o->biases.items[i] || last == end || *last || id < 0 || id > INT32_MAX)
            return nb_report_usage("run", "--logit-bias %s: give a token id and a bias, as 42=-1.5",
                                   o->biases.items[i]);
        biases[i] = (nb_logit_bias){(int32_t)id, bias};
    }
    return -1;
}

static int run_parsed(run_options *o, int argc, char **argv)
{
    nb_error err;
    int code = nb_model_options_finish("run", &o->model);
    nb_logit_bias *biases = calloc(o->biases.count + 1, sizeof *biases);
    if (code < 0 && biases)
        code = parse_biases(o, biases);
    if (code >= 0 || !biases) {
        free(biases);
        return code >= 0 ? code : NB_EXIT_FAILED;
    }
    o->generate.max_tokens = o->predict;
    o->generate.sampling.seed = o->seed < 0 ? NB_SEED_RANDOM : (uint64_t)o->seed;
    o->generate.stops = o->stops.items;
    o->generate.stop_count = o->stops.count;
    o->generate.sampling.bias = biases;
    o->generate.sampling.bias_count = o->biases.count;
    nb_interrupt_watch();
    chat c = {.options = o};
    if (run_chat(&c, argc, argv, &code, &err) != NB_OK)
        code = nb_report_error(&err);
    nb_session_close(c.session);
    nb_model_close(c.model);
    nb_buf_free(&c.prompt);
    nb_buf_free(&c.reply);
    nb_arena_free(&c.text);
    free(c.messages);
    free(biases);
    return code;
}

int nb_cmd_run(int argc, char **argv)
{
    run_options o = {
        .model = nb_model_options_defaults(), .generate = nb_generate_defaults(), .predict = -1, .seed = -1};
    nb_sampler_params *s = &o.generate.sampling;
    nb_option options[] = {
        {"predict", 'n', NB_OPTION_I64, &o.predict, "N", "at most N tokens (default: until the reply ends)"},
        {"system", 0, NB_OPTION_STRING, &o.system, "TEXT", "the system message"},
        {"raw", 0, NB_OPTION_FLAG, &o.raw, NULL, "complete the prompt as it is, without the chat template"},
        {"verbose", 'v', NB_OPTION_FLAG, &o.verbose, NULL, "counts and rates after the reply"},
        {"stop", 0, NB_OPTION_LIST, &o.stops, "TEXT", "end the reply before TEXT (may be repeated)"},
        {"special", 0, NB_OPTION_FLAG, &o.generate.special, NULL, "write control tokens out"},
        {"ignore-eos", 0, NB_OPTION_FLAG, &o.generate.ignore_end, NULL, "go on past the end of the reply"},
        {"seed", 's', NB_OPTION_I64, &o.seed, "N", "seed of the sampling (default: a fresh one)"},
        {"temp", 0, NB_OPTION_FLOAT, &s->temperature, "X", "temperature; 0 takes the likeliest token"},
        {"dynatemp-range", 0, NB_OPTION_FLOAT, &s->dynatemp_range, "X", "temperature varies by this with the entropy"},
        {"dynatemp-exp", 0, NB_OPTION_FLOAT, &s->dynatemp_exponent, "X", "how it does"},
        {"top-k", 0, NB_OPTION_INT, &s->top_k, "N", "only the N likeliest; 0: all"},
        {"top-p", 0, NB_OPTION_FLOAT, &s->top_p, "X", "the likeliest that together have probability X"},
        {"min-p", 0, NB_OPTION_FLOAT, &s->min_p, "X", "at least X times the likeliest"},
        {"typical", 0, NB_OPTION_FLOAT, &s->typical_p, "X", "locally typical sampling"},
        {"top-n-sigma", 0, NB_OPTION_FLOAT, &s->top_n_sigma, "X", "logits within X deviations of the best"},
        {"xtc-probability", 0, NB_OPTION_FLOAT, &s->xtc_probability, "X", "how often the top choices are excluded"},
        {"xtc-threshold", 0, NB_OPTION_FLOAT, &s->xtc_threshold, "X", "which they are"},
        {"repeat-last-n", 0, NB_OPTION_INT, &s->repeat_last_n, "N", "tokens that penalties look back on; -1: all"},
        {"repeat-penalty", 0, NB_OPTION_FLOAT, &s->repeat_penalty, "X", "penalty of repeated tokens; 1: none"},
        {"presence-penalty", 0, NB_OPTION_FLOAT, &s->presence_penalty, "X", "penalty of tokens already used"},
        {"frequency-penalty", 0, NB_OPTION_FLOAT, &s->frequency_penalty, "X", "penalty by how often they were"},
        {"dry-multiplier", 0, NB_OPTION_FLOAT, &s->dry_multiplier, "X", "DRY: penalty of repeated sequences; 0: none"},
        {"dry-base", 0, NB_OPTION_FLOAT, &s->dry_base, "X", "DRY: its growth"},
        {"dry-allowed-length", 0, NB_OPTION_INT, &s->dry_allowed_length, "N", "DRY: repeats this long are free"},
        {"dry-penalty-last-n", 0, NB_OPTION_INT, &s->dry_penalty_last_n, "N", "DRY: how far back; -1: all"},
        {"mirostat", 0, NB_OPTION_INT, &s->mirostat, "N", "mirostat 1 or 2 instead of the cuts"},
        {"mirostat-lr", 0, NB_OPTION_FLOAT, &s->mirostat_eta, "X", "its learning rate"},
        {"mirostat-ent", 0, NB_OPTION_FLOAT, &s->mirostat_tau, "X", "its target entropy"},
        {"logit-bias", 0, NB_OPTION_LIST, &o.biases, "ID=X", "adds X to a token's logit (may be repeated)"},
        {"samplers", 0, NB_OPTION_STRING, &s->order, "LIST", "the stages in order, with semicolons"},
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    int code = nb_options_parse("run", options, &argc, argv);
    if (code >= 0)
        return code;
    code = argc < 2 ? nb_report_usage("run", "which model? give a GGUF file") : run_parsed(&o, argc, argv);
    nb_options_free(options);
    return code;
}
